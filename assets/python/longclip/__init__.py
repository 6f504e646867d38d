"""The program longclip, installed by pip; see __main__.py for `python -m longclip`."""
