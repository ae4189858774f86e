"""Print the lowest versions that settings.ini allows, as constraints for pip: `numpy>=2.1` becomes `numpy==2.1`.

torch is left out: .ci/run says which one it takes."""
import re
from configparser import ConfigParser
from pathlib import Path

ini = ConfigParser(delimiters='=')
ini.read(Path(__file__).resolve().parents[1]/'settings.ini', encoding='utf-8')
for line in ini['DEFAULT']['requirements'].split():
    name,low = re.fullmatch(r'([\w-]+)>=([\w.]+)', line).groups()
    if name!='torch': print(f'{name}=={low}')
