"""Parts of Mailing that are measured alone, in a process of their own."""
