"""Prints user data as Terraform would: user_data.py NAME=VALUE…; the names are those of local.setup_env."""
import re
import sys
from pathlib import Path

DATABASE = Path(__file__).resolve().parents[1] / "database"


def rendered(settings, login_user="admin"):
    text = (DATABASE / "terraform/user_data.sh.tftpl").read_text(encoding="utf-8")
    lines = "".join(f"{name}='{value}'\n" for name, value in settings.items())
    text = re.sub(r"%\{ for .*?%\{ endfor ~\}\n", lambda _: lines, text, flags=re.S)
    text = text.replace("${login_user}", login_user)
    text = text.replace("${s3_get}", (DATABASE / "scripts/lib/s3_get.py").read_text(encoding="utf-8"))
    left = re.search(r"[$%]\{.*", re.sub(r'f"[^"]*"', "", text.split("<<'PROGRAM'")[0]))
    assert not left, f"the template has what this does not replace: {left}"
    return text


if __name__ == "__main__":
    print(rendered(dict(argument.split("=", 1) for argument in sys.argv[1:])), end="")
