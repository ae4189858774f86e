"""Run one lesson in a plain IPython shell, in a new empty folder: `python .ci/lesson.py run/05_trainer`

It stands in for Colab, where nbdev is not installed and IPython is old."""
import json, os, sys, tempfile
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell

path = Path(__file__).resolve().parents[1]/'nbs'/f'{sys.argv[1]}.ipynb'
cells = json.loads(path.read_text(encoding='utf-8'))['cells']
os.chdir(tempfile.mkdtemp())
shell = InteractiveShell.instance(ipython_dir=os.getcwd())
for c in cells:
    if c['cell_type']!='code': continue
    shell.user_ns['_exit_code'] = 0                  # what `!command` and `%pip` leave behind
    if not shell.run_cell(''.join(c['source'])).success or shell.user_ns['_exit_code']:
        sys.exit(f"{path.name}: cell {c['id']} failed")
print(f'{path.name} ran')
