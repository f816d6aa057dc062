"""What a signing command gets from us besides its three streams: nothing."""

from .homes import ring
from .scene import Scene

COPIES = 60


def test_a_signing_command_inherits_no_pipe(lab):
    """Or gpgme, whose pipes they are, waits for it: one that waits for a person would keep every verification waiting."""
    scene = Scene(lab, ring(lab, "ed25519"), ["ours"], copies=COPIES)
    seen = scene.prefix.path / "inherited"
    script = scene.prefix.write(
        "sign",
        f'#!/bin/sh\nfor fd in 3 4 5 6 7 8 9 10 11 12 13 14 15; do\n'
        f'\t[ ! -p /proc/$$/fd/$fd ] || echo "$fd" >>{seen}\ndone\nexec /usr/bin/gpg --sign --armor "$@"\n',
    )
    script.chmod(0o755)
    scene.variables(BINPKG_GPG_SIGNING_BASE_COMMAND=f"{script} [PORTAGE_CONFIG]")
    scene.apply("--jobs", "4", check=0)
    assert not seen.exists(), seen.read_text()
