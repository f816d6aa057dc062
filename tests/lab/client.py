"""A client: a second prefix that installs from a binhost and has only the public key."""

from .prefix import FETCH, Prefix


def client_of(prefix, address, path=None):
    """A prefix with the same repositories that takes its packages from `address`, signatures required."""
    client = Prefix.create(
        prefix.session,
        path,
        portage=prefix.portage,
        trusted=[prefix.key],
        variables={
            "FETCHCOMMAND": f'{prefix.session.venv(prefix.portage)}/bin/python {FETCH} \\"\\${{URI}}\\" \\"\\${{DISTDIR}}/\\${{FILE}}\\"',
            "RESUMECOMMAND": f'{prefix.session.venv(prefix.portage)}/bin/python {FETCH} \\"\\${{URI}}\\" \\"\\${{DISTDIR}}/\\${{FILE}}\\"',
            "PORTAGE_TRUST_HELPER": "/bin/true",
        },
    )
    client.write("etc/portage/binrepos.conf/lab.conf", f"[lab]\npriority = 10\nsync-uri = {address}\nverify-signature = true\n")
    return client
