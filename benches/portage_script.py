"""What one could write on Portage's API: update each signed package with force, sign it again, renew its entry.

Run by Portage's Python in the prefix. Reads an update file from stdin; prints how many packages it did. It changes what
packages depend on, and gives none a new name.
"""

import sys

import portage
from portage.gpkg import gpkg
from portage.update import parse_updates, update_dbentries


def main():
    updates, errors = parse_updates(sys.stdin.read())
    assert not errors, errors
    settings = portage.config(clone=portage.settings)
    tree = portage.db[portage.root]["bintree"]
    tree.populate()
    keys = ("BDEPEND", "DEPEND", "IDEPEND", "PDEPEND", "RDEPEND")
    done = 0
    for cpv in list(tree.dbapi.cpv_all()):
        values = dict(zip(keys, tree.dbapi.aux_get(cpv, keys)))
        changed = update_dbentries(updates, values, parent=cpv)
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
