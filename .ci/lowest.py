"""Print the lowest versions that settings.ini allows, as constraints for pip: `numpy>=2.1` becomes `numpy==2.1`.

torch is left out: .ci/run says which one it takes."""
import re, sys
from configparser import ConfigParser
from pathlib import Path

ini = ConfigParser(delimiters='=')
ini.read(Path(__file__).resolve().parents[1]/'settings.ini', encoding='utf-8')
for line in ini['DEFAULT']['requirements'].split()+ini['DEFAULT']['lessons_requirements'].split():
    m = re.fullmatch(r'([\w-]+)>=([\w.]+)', line)
    if not m: sys.exit(f"settings.ini: '{line}' has no lower bound that could be tried; write it like numpy>=2.1")
    if m[1]!='torch': print(f'{m[1]}=={m[2]}')
