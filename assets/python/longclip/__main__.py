"""`python -m longclip`: runs the program that was installed with this package."""

import os
import subprocess
import sys
import sysconfig


def program():
    """Its path: where pip puts the programs of this Python, of the user, or of `--target`."""
    name = "longclip" + (sysconfig.get_config_var("EXE") or "")
    user = "osx_framework_user" if sys.platform == "darwin" else f"{os.name}_user"
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folders = [sysconfig.get_path("scripts"), os.path.join(here, "bin")]
    if user in sysconfig.get_scheme_names():
        folders.insert(1, sysconfig.get_path("scripts", user))
    paths = [os.path.join(folder, name) for folder in folders]
    for path in paths:
        if os.path.isfile(path):
            return path
    raise SystemExit(f"error: the program longclip is at none of {', '.join(paths)}")


if __name__ == "__main__":
    command = [program(), *sys.argv[1:]]
    if sys.platform == "win32":
        raise SystemExit(subprocess.run(command).returncode)
    os.execv(command[0], command)
