"""Would installing this change a package that is here already? python .ci/untouched.py 'lightbrain[lessons] @ git+https://...'

.ci/run asks it in an environment with Colab's versions: a lesson's first cell must bring lightbrain there, and replace nothing."""
import json, re, subprocess, sys
from importlib.metadata import distributions

def name(o): return re.sub('[-_.]+', '-', o).lower()

here = {name(d.metadata['Name']): d.version for d in distributions()}
pip = [sys.executable, '-m', 'pip', 'install', '-q', '--dry-run', '--report', '-', sys.argv[1]]
report = json.loads(subprocess.run(pip, check=True, stdout=subprocess.PIPE, text=True).stdout)
would = {name(o['metadata']['name']): o['metadata']['version'] for o in report['install']}
changed = {n: f'{here[n]} -> {v}' for n,v in would.items() if here.get(n, v)!=v}
new = sorted(set(would)-set(here)-{'lightbrain'})
print(f'{len(changed)} changed, {len(new)} new: {", ".join(new) or "none but lightbrain"}')
sys.exit(f'pip would change {changed}' if changed else 0)
