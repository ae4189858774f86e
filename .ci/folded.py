"A lesson as HTML without its solutions: jupyter nbconvert --config .ci/folded.py --to html nbs/03_attention.ipynb"
from nbconvert.preprocessors import Preprocessor

class Folded(Preprocessor):
    def preprocess_cell(self, cell, resources, index):
        if cell.metadata.get('jupyter', {}).get('source_hidden'): cell.metadata['transient'] = {'remove_source': True}
        return cell,resources

c.HTMLExporter.preprocessors = [Folded]
c.Folded.enabled = True
