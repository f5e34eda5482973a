from mailing.cli import main

main()
