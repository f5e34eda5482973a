"""Why a message waits or how it ended: codes for the database and programs, words for people."""
