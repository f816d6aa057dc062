"""The configurations that were thought of by hand, and ::gentoo's own; settings.py asks the real Portage about them."""

GENTOO = "var/db/repos/gentoo"

# V config root with one repository and one profile; a case adds to it, or takes away (False).
BASE = {
    "etc/portage/repos.conf": "[DEFAULT]\nmain-repo = gentoo\n[gentoo]\nlocation = @ROOT@/var/db/repos/gentoo\n",
    "etc/portage/make.profile": "->@/var/db/repos/gentoo/profiles/default",
    f"{GENTOO}/profiles/repo_name": "gentoo\n",
    f"{GENTOO}/metadata/layout.conf": "masters =\nthin-manifests = true\nprofile-formats = portage-2\n",
    f"{GENTOO}/profiles/categories": "dev-util\n",
    f"{GENTOO}/profiles/arch.list": "amd64\n",
    f"{GENTOO}/profiles/default/eapi": "8\n",
    f"{GENTOO}/profiles/default/make.defaults": 'ARCH="amd64"\nACCEPT_KEYWORDS="amd64"\nCHOST="x86_64-pc-linux-gnu"\n'
    'IUSE_IMPLICIT="prefix"\nUSE_EXPAND=""\nUSE_EXPAND_IMPLICIT="ARCH"\nUSE_EXPAND_VALUES_ARCH="amd64"\n'
    'USE_EXPAND_UNPREFIXED="ARCH"\nFEATURES="news -strict"\n',
}

MAKE_CONF = "etc/portage/make.conf"
SIGNED = (
    'FEATURES="binpkg-signing"\nBINPKG_GPG_SIGNING_GPG_HOME="/root/gpg"\nBINPKG_GPG_SIGNING_KEY="0xABC"\n'
    'PKGDIR="@ROOT@/binpkgs"\nBINPKG_RESIGN_FOREIGN="hold"\nBINPKG_COMPRESS="xz"\nBINPKG_COMPRESS_FLAGS="-6"\n'
    'BINPKG_COMPRESS_FLAGS_ZSTD="-19"\nEMERGE_DEFAULT_OPTS="--jobs 3"\n'
)


def written():
    """Cases thought of by hand: name, files, environment, names to ask for besides."""
    conf = lambda text, **more: {"files": {MAKE_CONF: text}, **more}  # noqa: E731
    yield "nothing set", {}
    # the syntax, one by one
    for number, text in enumerate(
        [
            "V=b\n", 'V="b c"\n', "V='b c'\n", "V=b#c\n", "V=b #c\n", "#V=b\n", "V=#b\n", "V = b\n", "V =b\n", "V= b\n",
            "export V=b\n", "export V\n", "V=b export C=d\n", "V=b\nC=d", "V=b C=d\n", "V=b;C=d\n", "V=b;\n", "V=\n",
            "V=\nC=d\n", "V", "V\n", 'V=""\n', "V=''\n", '""=x\n', '"V"=x\n', "'V B'=x\n", "V+=b\n", "V==b\n", "1V=b\n",
            "V-B=c\n", "V.B=c\n", "_V=c\n", "__V=c\nB=${__V}d\n", "V=[b]\n", "V=b[c]\n", "V=(b)\n", "V=`b`\n", "V=b`c`\n",
            "V=<b\n", "V=b&c\n", "V=$(b)\n", 'V="$(b)"\n', 'V="${b:-c}d"\n', 'V="${b"\n', 'V="a${"\n', 'V="$"\n',
            'V="a$ b"\n', 'V="$$"\n', "V=$\n", 'V="a\\$b"\n', 'V="a\\\\b"\n', 'V="a\\\\$b"\n', 'V="a\\nb"\n', "V=a\\nb\n",
            'V="a\\\nb"\n', "V=a\\\nb\n", "V=a\\ b\n", 'V="a\nb"\n', "V='a\nb'\n", 'V="a\tb"\n', 'V="a\\"b"\n',
            "V='a\\'\n", "V='a'b\"c\"\n", "B=1\nA='$B'\n", "B=1\nA='\\$B'\n", 'B=1\nA="\'$B\'"\n', 'B=1\nA="\'$B\' $B"\n',
            "B=1\nA=\"it's $B\"\n", "B=1\nA=$B\n", "B=1\nA=${B}x\n", "B=1\nA=$Bx\n", 'V="$V x"\nA="$V x"\n', 'V="open\n',
            "V='open\n", "V=a\\", "V=a\\\n", "V=é\n", 'V="é"\n', 'é="x"\n', '"é"=x\n', "V=a\x0cb\n", "V=a\rB=c\n",
            "V=a\r\nB=c\r\n", 'V="a\r\nb"\n', "\ufeffA=b\n", "V=a,b.c/d:e?f~g!h@i%j*k{l}m+n\n", "= V\n", "V=b =\n", "source\n",
            "V=source\n", "V='source'\n", "source ''\n", "source nowhere\n", "source /\n", "source = x\n", "V=export\n",
            "export export=x\n", "ſ=x\n", "V=b\n\n\n# x\n\nB=[\n", "V=\x00b\n", "# é\nA=b\n", "\n", "", "#", "V=b #",
            "V=b\\#c\n", "V=\"b\"#c\n", "V='b''c'\n", "V=''''\n", 'V=\\"b\\"\n', 'V="${PKGDIR}/x"\n', 'V="${EROOT}|${EPREFIX}"\n',
            'V="${HOME}"\n', 'PKGDIR="${PORTAGE_CONFIGROOT}/x//./y/../z/"\n', 'PKGDIR="rel/../x"\n', 'PKGDIR="//a"\n',
            'PKGDIR=" /a b "\n', "PKGDIR=/\n", 'PKGDIR="../x"\n', "BROOT=x\nEPREFIX=y\nEROOT=z\nA=${EROOT}\n",
            'ROOT="@ROOT@/r"\nA=${ROOT}\n', 'ROOT=" "\n', 'ROOT="@ROOT@/r/../q//"\n', "PORTAGE_CONFIGROOT=/x\n",
            "CHOST=a\n", "CBUILD=a\nCHOST=b\n", "NOCOLOR=TRUE\n", "PORTAGE_BZIP2_COMMAND=nothing-like-it\n",
            "PORTAGE_BZIP2_COMMAND='sh -c x'\n", "PORTAGE_BZIP2_COMMAND=''\n", "PORTAGE_BZIP2_COMMAND=/bin/sh\n",
            "PORTAGE_BUNZIP2_COMMAND=nothing-like-it\n", "DESCRIPTION=x\nSLOT=1\nA=$SLOT\n", 'V="x' + "y" * 5000 + '"\n',
        ]
    ):  # fmt: skip
        yield f"syntax {number}: {text[:40]!r}", conf(text, names=["V", "B", "C", "", "__V", "é", "SLOT"])
    for number, features in enumerate(
        ["-*", "a -* b", "-news", "+x", "+", "-", "--x", "-+x", "+-x", "x -x x", "-* -*", "strict", "a\tb\n c", "-a\u00a0b"]
    ):
        yield f"features {features!r}", conf(f'FEATURES="{features}"\n')
        yield f"features {features!r} in the environment", conf('FEATURES="z y"\n', env={"FEATURES": features})
    # files and directories
    yield "invalid UTF-8", {"files": {MAKE_CONF: b'V="x\xff\xc3y\xe2\x82"\nB=\xff\n'}}
    yield "invalid UTF-8 in quotes", {"files": {MAKE_CONF: b'V="x\xff\xc3y\xe2\x82 \xf0\x9f\x98z\xed\xa0\x80"\n'}}
    nested = {
        f"{MAKE_CONF}/b": "V=b\nB=$V\n", f"{MAKE_CONF}/a": "V=a\n", f"{MAKE_CONF}/c/z": "C=$B$V\nA=cz\n",
        f"{MAKE_CONF}/c/.hidden": "V=hidden\n", f"{MAKE_CONF}/c/old~": "V=old\n", f"{MAKE_CONF}/.git/x": "V=git\n",
        f"{MAKE_CONF}/CVS/x": "V=cvs\n", f"{MAKE_CONF}/d~/x": "V=backup\n", f"{MAKE_CONF}/e": "->c", f"{MAKE_CONF}/f": "->nowhere",
        f"{MAKE_CONF}/B": "D=1\nA=${V}B\n", f"{MAKE_CONF}/é": "E=1\n", f"{MAKE_CONF}/z": None,
    }  # fmt: skip
    yield "make.conf is a directory", {"files": nested, "names": ["D", "E"]}
    yield "make.conf is an empty directory", {"files": {MAKE_CONF: None}}
    yield "a bad file in the directory", {"files": {**nested, f"{MAKE_CONF}/c/y": "V=1\nB C\n"}}
    yield "make.conf is a link", {"files": {MAKE_CONF: "->@/elsewhere", "elsewhere": "V=1\nsource more\n", "etc/portage/more": "V=2\n"}}
    yield "two make.conf", {"files": {MAKE_CONF: "V=${V}2\nB=2\n", "etc/make.conf": "V=1\nC=1\n"}, "names": ["C"]}
    yield "two make.conf, one file", {"files": {MAKE_CONF: "V=${V}2\n", "etc/make.conf": "->portage/make.conf"}}
    yield "only the old make.conf", {"files": {"etc/make.conf": "V=1\nFEATURES=x\n"}}
    yield "make.conf in a version control directory", {"files": {MAKE_CONF: "->.git", "etc/portage/.git/a": "V=1\n"}}
    # source
    yield "source", {"files": {MAKE_CONF: "V=1\nsource more\nB=${V}\n", "etc/portage/more": "V=2\nC=$V\n"}, "names": ["C"]}
    yield "source without a line end", {"files": {MAKE_CONF: "source more\nB=${V}", "etc/portage/more": "V=2"}}
    yield "source at the end", {"files": {MAKE_CONF: "V=1\nsource more", "etc/portage/more": "B=2"}}
    yield "source at the end of the sourced", {"files": {MAKE_CONF: "source more\n", "etc/portage/more": "source more2", "etc/portage/more2": "V=2\n"}}
    yield "source in the middle", {"files": {MAKE_CONF: "V= source more\nB=2\n", "etc/portage/more": "x C=3\n"}, "names": ["C"]}
    yield "source a value", {"files": {MAKE_CONF: "V=source more\nB=2\n", "etc/portage/more": "x C=3"}, "names": ["C"]}
    yield "source quoted", {"files": {MAKE_CONF: 'N=more\nsource "${N}"\n"source" \'$N\'\n', "etc/portage/more": "V=${V}x\n"}}
    yield "source deeper", {"files": {MAKE_CONF: "source d/one\nsource @ROOT@/two\n", "etc/portage/d/one": "source two\n", "etc/portage/d/two": "V=2\n", "two": "B=$V\n"}}
    yield "source, error inside", {"files": {MAKE_CONF: "V=1\nsource more\n", "etc/portage/more": "\n\nB\n"}}
    yield "source, error after", {"files": {MAKE_CONF: "V=1\nsource more\n\nB ]\n", "etc/portage/more": "\n\nB=1\n\n"}}
    yield "source, open quote inside", {"files": {MAKE_CONF: "source more\n", "etc/portage/more": "B='1\n"}}
    yield "source a directory", {"files": {MAKE_CONF: "source more\n", "etc/portage/more": None}}
    yield "source below a file", {"files": {MAKE_CONF: "source more/x\n", "etc/portage/more": "V=1\n"}}
    yield "source itself", {"files": {MAKE_CONF: "V=1\nsource make.conf\n"}}
    yield "source with an equals sign", {"files": {MAKE_CONF: "source more=\n", "etc/portage/more": "V=1\n"}}
    yield "source a hundred empty files", {"files": {MAKE_CONF: "source more\n" * 100 + "V=1\n", "etc/portage/more": ""}}
    yield "source by the sourcer's variable", {"files": {MAKE_CONF: "source ${EROOT}/more\n", "more": "V=1\n"}}
    # layers
    default = f"{GENTOO}/profiles/default"
    yield "profile values", {"files": {f"{default}/make.defaults": "V=1\nB=${V}2\nFEATURES=\"x y\"\nUSE_EXPAND=\nsource=3\n", MAKE_CONF: "C=${B}3\nFEATURES=-x\n"}, "names": ["C"]}
    yield "profile may not source", {"files": {f"{default}/make.defaults": "source more\n", f"{default}/more": "V=1\n"}}
    yield "profile with an error", {"files": {f"{default}/make.defaults": "V=1\nB\n\nC\n"}}
    yield "profile make.defaults is a directory", {"files": {f"{default}/make.defaults": False, f"{default}/make.defaults/a": "V=1\n", f"{default}/make.defaults/b": "V=${V}2\n"}}
    yield "the same where EAPI 6 forbids it", {"files": {f"{default}/make.defaults": False, f"{default}/make.defaults/a": "V=1\n", f"{default}/eapi": "6\n", f"{GENTOO}/metadata/layout.conf": "profile-formats = pms\n"}}
    yield "the same in EAPI 7", {"files": {f"{default}/make.defaults": False, f"{default}/make.defaults/a": "V=1\n", f"{default}/eapi": "7\n", f"{GENTOO}/metadata/layout.conf": "profile-formats = pms\n"}}
    yield "the same by a default EAPI", {"files": {f"{default}/make.defaults": False, f"{default}/make.defaults/a": "V=1\n", f"{default}/eapi": False, f"{GENTOO}/metadata/layout.conf": "profile-formats = profile-default-eapi\nprofile_eapi_when_unspecified = 8\n"}}
    yield "the same by profiles/eapi 9", {"files": {f"{default}/make.defaults": False, f"{default}/make.defaults/a": "V=1\n", f"{default}/eapi": False, f"{GENTOO}/profiles/eapi": "9\n", f"{GENTOO}/metadata/layout.conf": "profile-formats = pms\n"}}
    yield "the same by profiles/eapi 8", {"files": {f"{default}/make.defaults": False, f"{default}/make.defaults/a": "V=1\n", f"{default}/eapi": False, f"{GENTOO}/profiles/eapi": "8\n", f"{GENTOO}/metadata/layout.conf": "profile-formats = pms\n"}}
    yield "the same by profiles/eapi 8 alone", {"files": {f"{default}/make.defaults": False, f"{default}/make.defaults/a": "V=1\n", f"{default}/eapi": False, f"{GENTOO}/profiles/eapi": "8\n", f"{GENTOO}/metadata/layout.conf": ""}}
    parent = lambda text, **more: {"files": {f"{default}/parent": text, f"{GENTOO}/profiles/base/make.defaults": "V=base\nFEATURES=\"base strict\"\n", f"{GENTOO}/profiles/base/eapi": "8\n", **more}}  # noqa: E731
    for text in ["../base\n", "../base", "# x\n\n  ../base  # y\n", "../base\n../base\n", "gentoo:base\n", ":base\n", "nowhere:base\n", "other:x\n", "../nowhere\n", "\n", "", "#\n", "../base x\n", "@ROOT@/abs\n", "..//./base/\n", "../link\n", "o:x\n"]:
        more = {
            "etc/portage/repos.conf": BASE["etc/portage/repos.conf"] + "[other]\nlocation = @ROOT@/other\n",
            "other/profiles/repo_name": "other\n", "other/metadata/layout.conf": "masters = gentoo\naliases = o\n",
            "other/profiles/x/make.defaults": "V=${V}x\n", "other/profiles/x/parent": "../y\n", "other/profiles/y/make.defaults": "V=y\n",
            "abs/make.defaults": "V=abs\n", "abs/parent": "gentoo:base\n", f"{GENTOO}/profiles/link": "->@/abs",
        }  # fmt: skip
        yield f"parent {text!r}", parent(text, **more)
        yield f"parent {text!r} by PMS", parent(text, **{**more, f"{GENTOO}/metadata/layout.conf": "profile-formats = pms\nmasters =\n"})
    yield "parents in circles", parent("../base\n", **{f"{GENTOO}/profiles/base/parent": "../default\n"})
    yield "unknown EAPI", {"files": {f"{default}/eapi": "elephant\n", MAKE_CONF: "V=1\n"}}
    yield "unknown EAPI of a parent", parent("../base\n", **{f"{GENTOO}/profiles/base/eapi": "elephant\n"})
    yield "two lines of EAPI", {"files": {f"{default}/eapi": "8\n9\n"}}
    yield "empty EAPI", {"files": {f"{default}/eapi": ""}}
    yield "no profile", {"files": {"etc/portage/make.profile": False, MAKE_CONF: "V=1\n", "etc/portage/profile/make.defaults": "B=1\n"}}
    yield "profile to nowhere", {"files": {"etc/portage/make.profile": "->nowhere"}}
    yield "profile is a directory", {"files": {"etc/portage/make.profile": False, "etc/portage/make.profile/parent": "@ROOT@/var/db/repos/gentoo/profiles/default\ngentoo:default\n", "etc/portage/make.profile/make.defaults": "V=1\n"}}
    yield "profile in the old place", {"files": {"etc/portage/make.profile": False, "etc/make.profile": "->../var/db/repos/gentoo/profiles/default"}}
    yield "profiles in both places", {"files": {"etc/make.profile/make.defaults": "V=1\n"}}
    yield "the user's profile", {"files": {"etc/portage/profile/make.defaults": "V=1\nFEATURES=\"-news user\"\nCHOST=x\n", "etc/portage/profile/parent": "../nowhere\n"}}
    yield "the user's profile as a directory", {"files": {"etc/portage/profile/make.defaults/b": "V=${V}1\n", "etc/portage/profile/make.defaults/a": "V=0\n"}}
    yield "PROFILE_ONLY_VARIABLES", {"files": {f"{default}/make.defaults": 'PROFILE_ONLY_VARIABLES="V B -B C"\nA=1\n', MAKE_CONF: "V=2\nB=2\n"}, "env": {"V": "3", "C": "3"}}
    yield "PROFILE_ONLY_VARIABLES that add up", {"files": {f"{default}/make.defaults": 'PROFILE_ONLY_VARIABLES="USE_EXPAND_HIDDEN ENV_UNSET"\nUSE_EXPAND_HIDDEN="a b"\n', MAKE_CONF: "USE_EXPAND_HIDDEN=c\nENV_UNSET=d\n"}, "env": {"USE_EXPAND_HIDDEN": "e -a", "ENV_UNSET": "f"}}
    yield "USE does not add up", {"files": {f"{default}/parent": "../base\n", f"{GENTOO}/profiles/base/make.defaults": 'USE="a"\nX="$USE"\n', f"{default}/make.defaults": 'X="${X}|${USE}|"\nUSE="b"\nY="$USE"\n'}, "names": ["X", "Y"]}
    yield "profile.env", {"files": {"etc/profile.env": "export V='$B'\nexport CONFIG_PROTECT='/x'\nexport PATH='/bin'\nexport D='same'\n", MAKE_CONF: "C=$V$D\n"}, "env": {"D": "same", "EPREFIX": "", "ROOT": "@ROOT@"}, "names": ["C"]}
    yield "profile.env with an error", {"files": {"etc/profile.env": "export V\n"}, "env": {"EPREFIX": "", "ROOT": "@ROOT@"}}
    yield "profile.env of a prefix", {"files": {"pre/etc/profile.env": "export V='x'\nexport PATH='y'\nexport PKG_CONFIG_PATH='z'\n"}, "env": {"EPREFIX": "/pre", "ROOT": "@ROOT@"}}
    yield "package.env for everything", {"files": {MAKE_CONF: "V=1\nFEATURES=x\nB=$V\n", "etc/portage/package.env": "*/* one two\ndev-util/x three\n*/* four # five\n", "etc/portage/env/one": 'V="${V}one"\nFEATURES="one -x"\nROOT=x\n', "etc/portage/env/two": "V=${V}two\nFEATURES=two\nCONFIG_PROTECT=/\n", "etc/portage/env/three": "V=3\n"}}
    yield "package.env as a directory", {"files": {MAKE_CONF: "V=1\n", "etc/portage/package.env/a/b": "*/* one\n", "etc/portage/package.env/c": "*/*\n", "etc/portage/env/one": "V=2\nsource two\n", "etc/portage/env/two": "B=3\n"}}
    yield "package.env with an error", {"files": {"etc/portage/package.env": "*/* one\n", "etc/portage/env/one": "V\n"}}
    # environment and places
    yield "environment", conf("V=1\nPKGDIR=/a\nFEATURES=x\n", env={"V": "2$V", "PKGDIR": "/b/../c", "FEATURES": "-x y", "EROOT": "/nonsense", "SLOT": "3", "BINPKG_COMPRESS": "lz4"})
    yield "empty variables", conf("V=1\nPKGDIR=/a\n", env={"V": "", "FEATURES": "", "BINPKG_FORMAT": ""})
    yield "ROOT", conf("ROOT=@ROOT@/not\n", env={"ROOT": "@ROOT@/r//x/../"})
    yield "empty ROOT", conf("ROOT=@ROOT@/not\n", env={"ROOT": ""})
    yield "EPREFIX", conf("V=$EPREFIX\n", env={"EPREFIX": "/a//b/../c/", "ROOT": "@ROOT@/r"})
    yield "EPREFIX is /", conf("V=$EPREFIX\n", env={"EPREFIX": "/"})
    yield "SYSROOT", conf("", env={"ROOT": "@ROOT@/r", "SYSROOT": "@ROOT@/r"})
    yield "another SYSROOT", conf("", env={"ROOT": "@ROOT@/r", "SYSROOT": "@ROOT@/s"})
    yield "SYSROOT without ROOT", conf("", env={"SYSROOT": "@ROOT@/s"})
    yield "no such config root", {"env": {"PORTAGE_CONFIGROOT": "@ROOT@/nowhere"}}
    yield "config root with dots", conf("V=1\n", env={"PORTAGE_CONFIGROOT": "@ROOT@//etc/../"})
    yield "no PORTAGE_OVERRIDE_EPREFIX", conf("V=1\nPKGDIR=/x\n", env={"PORTAGE_OVERRIDE_EPREFIX": None})
    for name, more in repositories():
        yield name, more
    # the hook
    yield "hook", conf(SIGNED, hook=True)
    yield "hook with prefix and root", conf(SIGNED, hook=True, env={"ROOT": "@ROOT@/r", "EPREFIX": "/pre"})
    yield "hook of a real emerge --sync", {
        "hook": True, "real": True, "env": {"PORTAGE_OVERRIDE_EPREFIX": "@ROOT@", "PORTAGE_CONFIGROOT": None},
        "files": {MAKE_CONF: SIGNED + 'FEATURES="${FEATURES} -usersync -news"\nBINPKG_GPG_SIGNING_BASE_COMMAND="sign --with ${HOSTNAME}[PORTAGE_CONFIG]"\n', "etc/portage/repos.conf": "[DEFAULT]\nmain-repo = gentoo\n[gentoo]\nlocation = @ROOT@/var/db/repos/gentoo\nsync-type = git\nsync-uri = file://@ROOT@/upstream\nauto-sync = yes\nsync-git-verify-commit-signature = no\n[overlay]\nlocation = @ROOT@/overlay\npriority = 5\n", "overlay/profiles/repo_name": "overlay\n", "overlay/metadata/layout.conf": "masters = gentoo\naliases = ov\n"},
    }  # fmt: skip
    expansions = ["", "$V", "${V}x$B", "'$V'", '"$V"', "\"'$V'\"", "\\$V", "\\\\$V", "$", "${", "${}", "a\nb", "$NOTHING", "[PORTAGE_CONFIG] ${PKGDIR}", "\\\n", "\\", "${EROOT}|${ROOT}", "$FEATURES", "é$V"]
    yield "expand", conf("V=1\nB='a b'\n", expand=expansions)


def repositories():
    """Cases of repositories."""
    main = BASE["etc/portage/repos.conf"]
    overlay = {"other/profiles/repo_name": "other\n", "other/metadata/layout.conf": "masters = gentoo\naliases = o1 o2\n"}
    third = {"third/profiles/repo_name": "third\n", "third/metadata/layout.conf": "masters = other gentoo nowhere\n"}
    section = "[other]\nlocation = @ROOT@/other\n"
    thirds = "[third]\nlocation = @ROOT@/third\n"

    def case(text, **files):
        return {"files": {"etc/portage/repos.conf": text, **overlay, **third, **files}}

    texts = {
        "two": main + section, "three": main + section + thirds, "three, other order": thirds + section + main,
        "priorities": main + section + "priority = 5\n" + thirds + "priority = -2000\n",
        "equal priorities": main + "priority = 3\n" + section + "priority = 3\n" + thirds + "priority = 3\n",
        "bad priority": main + section + "priority = x\n" + thirds + "priority = +1_0\n",
        "priority 0 for main": main + "priority = 0\n" + section,
        "no main": section + thirds, "main is an alias": "[DEFAULT]\nmain-repo = o1\n" + section + thirds,
        "main is unknown": "[DEFAULT]\nmain-repo = nowhere\n" + section, "no location": main + "[other]\nx = y\n",
        "empty location": main + "[other]\nlocation =\n", "location is missing": main + "[other]\nlocation = @ROOT@/nowhere\n",
        "gentoo is missing": "[DEFAULT]\nmain-repo = gentoo\n[gentoo]\nlocation = @ROOT@/nowhere\n" + section,
        "location is a file": main + "[other]\nlocation = @ROOT@/other/profiles/repo_name\n",
        "another name": main + "[elsewhat]\nlocation = @ROOT@/other\n",
        "another name, an alias in repos.conf": main + "[elsewhat]\nlocation = @ROOT@/other\naliases = elsewhat\n",
        "by its alias": main + "[o1]\nlocation = @ROOT@/other\n", "alias taken": main + section + thirds + "aliases = other o1 gentoo\n",
        "alias taken away": main + section + "aliases = -o1 o3\n[o1]\nlocation = @ROOT@/third\n", "all aliases taken away": main + section + "aliases = -* o3\n",
        "masters in repos.conf": main + section + "masters = third\n" + thirds + "masters =\n",
        "twice the same place": main + section + "[o1]\nlocation = @ROOT@/other/\n", "through a link": main + "[other]\nlocation = @ROOT@/link\n",
        "location with spaces": main + "[other]\nlocation =   @ROOT@/other   \n", "location with dots": main + "[other]\nlocation = @ROOT@/third/..//other/.\n",
        "interpolation": main + "[other]\nlocation = %(PORTAGE_CONFIGROOT)sother\n[third]\nplace = third\nlocation = %(portage_configroot)s/%(Place)s\n",
        "interpolation of a %%": main + section + "sync-uri = http://x/%%20\n", "bad interpolation": main + section + "sync-uri = http://x/%20\n",
        "unknown interpolation": main + section + "x = %(nothing)s\n", "circular interpolation": main + section + "x = %(y)s\ny = %(x)s\n",
        "open interpolation": main + section + "x = %(y\n", "empty interpolation": main + section + "x = %()s\n", "lonely %": main + section + "x = 50%\n",
        "deep interpolation": main + section + "".join(f"x{n} = %(x{n + 1})s\n" for n in range(8)) + "x8 = 1\n",
        "too deep interpolation": main + section + "".join(f"x{n} = %(x{n + 1})s\n" for n in range(12)) + "x12 = 1\n",
        "interpolation in DEFAULT": "[DEFAULT]\nmain-repo = gentoo\nx = %(nothing)s\n" + main[len("[DEFAULT]\nmain-repo = gentoo\n"):],
        "DEFAULT for all": main.replace("[DEFAULT]", "[DEFAULT]\nmasters = third\npriority = 7") + section + thirds,
        "DEFAULT has a location": main.replace("[DEFAULT]", "[DEFAULT]\nlocation = @ROOT@/other"),
        "colons": "[DEFAULT]\nmain-repo: gentoo\n[gentoo]\nlocation:@ROOT@/var/db/repos/gentoo\n", "capitals": main + "[other]\nLOCATION = @ROOT@/other\n",
        "comments": "# x\n; y\n" + main + "# z\n[other] # w\nlocation = @ROOT@/other\n ; v\n", "comment behind": main + "[other]\nlocation = @ROOT@/other # x\n",
        "several lines": main + section + "aliases = a\n b\n\n  c\n# d\n e\n\nmasters = gentoo\n third\n", "indented": "  [DEFAULT]\n  main-repo = gentoo\n" + main[len("[DEFAULT]\nmain-repo = gentoo\n"):],
        "indented options": main + "[other]\n  location = @ROOT@/other\n  aliases = x\n priority = 3\n   and more\n",
        "section twice": main + section + section, "option twice": main + section + "location = x\n", "DEFAULT twice": main + "[DEFAULT]\nx = y\n" + section,
        "option twice in DEFAULT": main.replace("[DEFAULT]", "[DEFAULT]\nmain-repo = x"), "no section": "x = y\n" + main, "nonsense": main + section + "nonsense\n",
        "no option": main + section + "= x\n", "empty section": main + "[]\nx = y\n", "odd section": main + "[a]b]\nlocation = @ROOT@/other\n", "section and more": main + "[other] x = y\nlocation = @ROOT@/other\n",
        "open section": main + "[other\nlocation = @ROOT@/other\n", "bracket option": main + section + "[x = y\n", "empty": "", "CRLF": (main + section).replace("\n", "\r\n"), "tabs": (main + section).replace(" = ", "\t=\t"),
        "unknown sync-type": main + section + "sync-type = elephant\nsync-uri = x\n", "form feed": main + section + "aliases = a\x0cb\n\x0cc\n",
        "unicode": main + section + "aliases = é\u00a0ü\n", "wide space": main + section + "\u3000aliases = x\n",
    }  # fmt: skip
    for name, text in texts.items():
        yield f"repos.conf: {name}", case(text, link="->other")
    yield "repos.conf is a directory", {"files": {"etc/portage/repos.conf": False, "etc/portage/repos.conf/b.conf": section + "priority = 1\n", "etc/portage/repos.conf/a/x": main, "etc/portage/repos.conf/c": "[other]\npriority = 9\n", "etc/portage/repos.conf/.d": "[other]\npriority = 8\n", "etc/portage/repos.conf/e~": "x", **overlay}}
    yield "no repos.conf", {"files": {"etc/portage/repos.conf": False}}
    yield "broken file in repos.conf", {"files": {"etc/portage/repos.conf": False, "etc/portage/repos.conf/a": main, "etc/portage/repos.conf/b": "x\n"}}
    for name, text in {"missing": False, "empty": "", "blank": " \n", "odd": " o/t h.e-r! \nx\n", "hyphens": "--x\n", "invalid": "///\n", "unicode": "é\n", "a directory": None}.items():
        files = {**overlay, "other/profiles/repo_name": text, "other/profiles": None}
        for heading in ["other", "o-t-h-e-r", "x", "x-other", "é"]:
            yield f"repo_name is {name}, section {heading}", {"files": {"etc/portage/repos.conf": main + section.replace("[other]", f"[{heading}]"), **files}}
    for text in ["", "masters =\n", "masters = third\nmasters = gentoo\n", "repo-name = renamed\n", "repo-name = !\n", "aliases = renamed\n", "nonsense\n= x\n# masters = third\n masters=third \n", "profile-formats = portage-2 elephant\n", "repo-name = other = x\n"]:
        for heading in ["other", "renamed"]:
            yield f"layout.conf {text!r}, section {heading}", case(main + section.replace("[other]", f"[{heading}]") + thirds, **{"other/metadata/layout.conf": text})
    yield "layout.conf is a directory", case(main + section, **{"other/metadata/layout.conf": False, "other/metadata/layout.conf/a": "masters = third\n"})
    variable = main + section + "priority = 50\n"
    for name, text in {"set": variable, "empty": "", "bad": "x", "CRLF": variable.replace("\n", "\r\n"), "form feed": variable.replace("priority", "\x0cpriority"), "lonely CR": variable.replace("priority", "x = y\rpriority")}.items():
        yield f"PORTAGE_REPOSITORIES {name}", {**case(main + thirds), "env": {"PORTAGE_REPOSITORIES": text, "PORTDIR": "@ROOT@/third", "PORTDIR_OVERLAY": "@ROOT@/third"}}
    for env in [{"PORTDIR_OVERLAY": "@ROOT@/other"}, {"PORTDIR_OVERLAY": "@ROOT@/third '@ROOT@/other' @ROOT@/nowhere"}, {"PORTDIR_OVERLAY": "'@ROOT@/other"}, {"PORTDIR": "@ROOT@/other"}, {"PORTDIR": "@ROOT@/nowhere"}, {"PORTDIR": "@ROOT@/other", "PORTDIR_OVERLAY": "@ROOT@/third/../other @ROOT@/third"}, {"PORTDIR": ""}, {"PORTDIR": "@ROOT@/copy"}, {"PORTDIR_OVERLAY": "@ROOT@/copy"}]:
        copy = {"copy/profiles/repo_name": "gentoo\n", "copy/metadata/layout.conf": "masters =\n"}
        for name, text in {"main": main, "all": main + section + "priority = 3\nmasters = third\n" + thirds, "none": "", "no main": section, "DEFAULT": main.replace("[DEFAULT]", "[DEFAULT]\naliases = x\nmasters = third")}.items():
            yield f"{env}, repos.conf {name}", {**case(text, **copy), "env": env}
        yield f"{env} in make.conf", {"files": {**case(main)["files"], **copy, MAKE_CONF: "".join(f'{k}="{v}"\n' for k, v in env.items())}}


def real_profiles(profiles):
    """::gentoo's own profiles, where they are at hand."""
    if profiles is None:
        return
    with open(profiles / "profiles/profiles.desc") as lines:
        rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    paths = sorted({row[1] for row in rows if len(row) == 3})
    for path in paths[:: max(1, len(paths) // 80)]:
        yield f"::gentoo profile {path}", {
            "base": False,
            "files": {
                "etc/portage/repos.conf": f"[DEFAULT]\nmain-repo = gentoo\n[gentoo]\nlocation = {profiles}\n",
                "etc/portage/make.profile": f"->{profiles}/profiles/{path}",
                MAKE_CONF: 'CFLAGS="${CFLAGS} -march=native"\nFEATURES="${FEATURES} binpkg-signing"\nPKGDIR="${PKGDIR}/${ARCH}"\n',
            },
        }


def all_cases(profiles):
    """Every case, as a dictionary with its name in it."""
    for source in (written(), real_profiles(profiles)):
        for name, case in source:
            yield {"name": name, **case}
