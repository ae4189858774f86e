"Hand what `settings.ini` says to setuptools; the fields that nbdev reads itself are in `pyproject.toml`"
from configparser import ConfigParser
from setuptools import setup

ini = ConfigParser(delimiters='=')
ini.read('settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
def lines(key): return cfg[key].strip().splitlines()

setup(
    license=cfg['license'],
    keywords=cfg['keywords'].split(),
    classifiers=lines('classifiers'),
    install_requires=lines('requirements'),
    extras_require={o: lines(f'{o}_requirements') for o in ('lessons','export','eval','dev','scale')},
    entry_points={'console_scripts': lines('console_scripts'), 'nbdev': ['lightbrain = lightbrain._modidx:d']},
)
