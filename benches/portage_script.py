"""What one could write on Portage's API: update each signed package with force, sign it again, renew its entry.

Run by Portage's Python in the prefix. Reads JSON from stdin: {"old": …, "new": …} (one move); prints how many it did.
"""

import json
import sys

import portage
from portage.gpkg import gpkg
from portage.update import update_dbentries


def main():
    words = json.load(sys.stdin)
    settings = portage.config(clone=portage.settings)
    tree = portage.db[portage.root]["bintree"]
    tree.populate()
    keys = ("BDEPEND", "DEPEND", "IDEPEND", "PDEPEND", "RDEPEND")
    update = ["move", portage.dep.Atom(words["old"]), portage.dep.Atom(words["new"])]
    done = 0
    for cpv in list(tree.dbapi.cpv_all()):
        values = dict(zip(keys, tree.dbapi.aux_get(cpv, keys)))
        changed = update_dbentries([update], values, parent=cpv)
        if not changed:
            continue
        path = tree.getname(cpv)
        package = gpkg(settings, f"{cpv}-{cpv.build_id}", path)
        metadata = package.get_metadata()
        for key, value in changed.items():
            metadata[key] = value.encode()
        package.update_metadata(metadata, force=True)
        tree.inject(cpv)
        done += 1
    print(done)


main()
