from mailing.cli.main import main

main()
