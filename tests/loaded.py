"""Which files of the project Python has loaded once it has imported these modules, as JSON.

python -m tests.loaded MODULE …"""

import json
import sys
from importlib import import_module

for name in sys.argv[1:]:
    import_module(name)
ours = [module for name, module in sys.modules.items() if name.partition(".")[0] == "stages"]
print(json.dumps([module.__file__ for module in ours if module.__file__]))
