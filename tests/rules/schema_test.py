"""The published JSON Schemas accept every rule and policy that ships, and refuse what the parser refuses."""
import copy
import json
import pathlib
import sys

import jsonschema
import yaml

WRONG = {
    "rule": [lambda d: d.update(sumary="x"), lambda d: d["match"][0].update(txt="x"), lambda d: d.pop("blame"), lambda d: d.update(status="good"),
             lambda d: d["match"][0].update(within="soon"), lambda d: d["tests"][0].update(expect="perhaps")],
    "policy": [lambda d: d.update(sumary="x"), lambda d: d.pop("advice"), lambda d: d.update(pack="other"), lambda d: d.update(tests=[])],
}


def main(root):
    problems, checked = [], 0
    for kind, folder in (("rule", "catalog"), ("policy", "policies")):
        validator = jsonschema.Draft7Validator(json.loads((root / f"rules/schema/{kind}.schema.json").read_text()))
        documents = [(file, d) for file in sorted((root / "rules" / folder).glob("*.yaml")) for d in yaml.safe_load_all(file.read_text()) if d]
        for file, document in documents:
            checked += 1
            problems += [f"{file.name}: {error.message[:200]}" for error in validator.iter_errors(document)]
        for number, spoil in enumerate(WRONG[kind]):
            document = copy.deepcopy(documents[0][1])
            spoil(document)
            if validator.is_valid(document):
                problems.append(f"{kind}.schema.json accepts wrong document {number}")
    print("\n".join(problems) if problems else f"{checked} documents are valid")
    return 1 if problems or checked < 100 else 0


sys.exit(main(pathlib.Path(sys.argv[1])))
