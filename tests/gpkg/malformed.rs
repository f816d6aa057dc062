//! One table of containers that are odd or wrong, with what we say and what Portage does.

use crate::build::{ENTRIES, GNU, Part, examine, honest, line, members, metadata, record, sealed, tar, with_metadata};
use crate::oracle::{Oracle, read_request};

/// What Portage does with a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Portage {
    Accepts,
    Refuses,
}
use Portage::{Accepts, Refuses};

/// A container, what our error says (nothing if we accept it), and what Portage does.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    ours: Option<&'static str>,
    portage: Portage,
}

fn case(name: &'static str, bytes: Vec<u8>, ours: impl Into<Option<&'static str>>, portage: Portage) -> Case {
    Case { name, bytes, ours: ours.into(), portage }
}

/// An honest package, changed before its Manifest is made.
fn changed(change: impl FnOnce(&mut Vec<Part>)) -> Vec<u8> {
    let mut parts = honest();
    change(&mut parts);
    tar(&sealed(parts))
}

/// An honest package, changed after its Manifest was made.
fn tampered(change: impl FnOnce(&mut Vec<Part>)) -> Vec<u8> {
    let mut parts = sealed(honest());
    change(&mut parts);
    tar(&parts)
}

/// An honest package with another Manifest.
fn listed(change: impl FnOnce(String) -> String) -> Vec<u8> {
    let mut parts = honest();
    let text = change(parts.iter().map(line).collect());
    parts.push(Part::new("foo-1/Manifest", text));
    tar(&parts)
}

/// An honest package with this metadata archive.
fn described(name: &str, archive: impl Into<Vec<u8>>) -> Vec<u8> {
    tar(&sealed(with_metadata(name, archive)))
}

fn pax(records: &[(&str, &str)]) -> Part {
    let text: String = records.iter().map(|(key, value)| record(key, value)).collect();
    Part::of_kind(b'x', "./PaxHeaders/foo", text)
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 3).unwrap()
}

/// Odd, but accepted by us and by Portage.
fn odd() -> Vec<Case> {
    let ok = |name, bytes| case(name, bytes, None, Accepts);
    let gnu = |parts: Vec<Part>| parts.into_iter().map(|part| Part { magic: GNU, ..part }).collect::<Vec<_>>();
    vec![
        ok("honest", tampered(|_| {})),
        ok("reversed", tampered(|parts| parts.reverse())),
        ok("a gpkg-1 with content", changed(|parts| parts[0].data = b"hello".to_vec())),
        ok("junk after the end", [tampered(|_| {}), vec![b'j'; 3000]].concat()),
        ok("junk instead of an end", [members(&sealed(honest())), vec![b'j'; 3000]].concat()),
        ok("no end", members(&sealed(honest()))),
        ok("one block of end", [members(&sealed(honest())), vec![0; 512]].concat()),
        ok("GNU", tar(&gnu(sealed(honest())))),
        ok(
            "GNU with a long name that is not needed",
            tampered(|parts| {
                *parts = gnu(parts.clone());
                let long = Part { magic: GNU, ..Part::of_kind(b'L', "././@LongLink", "foo-1/image.tar\0") };
                parts[2].name = b"foo-1/imag".to_vec();
                parts.insert(2, long);
            }),
        ),
        ok("an old type flag", tampered(|parts| parts[2].kind = 0)),
        ok("a contiguous file", tampered(|parts| parts[2].kind = b'7')),
        ok(
            "PAX path",
            tampered(|parts| {
                parts[2].name = b"nothing".to_vec();
                parts.insert(2, pax(&[("comment", "x=y"), ("path", "foo-1/image.tar"), ("mtime", "1700000000.25")]));
            }),
        ),
        ok(
            "PAX size",
            tampered(|parts| {
                let size = parts[2].data.len().to_string();
                parts[2] = parts[2].clone().sized(b"00000000000");
                parts.insert(2, pax(&[("size", &size)]));
            }),
        ),
        ok(
            "PAX comment for all",
            tampered(|parts| {
                parts.insert(0, Part::of_kind(b'g', "pax_global_header", record("comment", "abc")));
            }),
        ),
        ok("another member", changed(|parts| parts.push(Part::new("foo-1/extra", "x")))),
        ok(
            "another order of digests",
            listed(|text| {
                text.lines()
                    .map(|line| {
                        let words: Vec<_> = line.split(' ').collect();
                        format!(
                            "{} {} {} {} {} {} {}\n",
                            words[0], words[1], words[2], words[5], words[6], words[3], words[4]
                        )
                    })
                    .collect()
            }),
        ),
        ok(
            "upper-case digests",
            listed(|text| {
                text.lines()
                    .map(|line| {
                        let (start, hex) = line.rsplit_once(' ').unwrap();
                        format!("{start} {}\n\n", hex.to_uppercase())
                    })
                    .collect()
            }),
        ),
        ok("one more algorithm", listed(|text| text.replace(" BLAKE2B", " WHIRLPOOL abcd BLAKE2B"))),
        ok("zstd", described("metadata.tar.zst", zstd_of(&metadata(&ENTRIES)))),
        ok("zstd in two frames", {
            let archive = metadata(&ENTRIES);
            let (start, end) = archive.split_at(1000);
            let packed = [zstd_of(start), zstd_of(end)].concat();
            described("metadata.tar.zst", packed)
        }),
        ok("nested metadata", described("metadata.tar", metadata(&[("a/b", b"x")]))),
        ok("metadata without an end", described("metadata.tar", members(&[Part::new("metadata/PF", "foo-1")]))),
    ]
}

/// Wrong, and refused by both.
fn wrong_containers() -> Vec<Case> {
    let no = |name, bytes, ours: &'static str| case(name, bytes, ours, Refuses);
    let renamed = |index: usize, name: &str| tampered(|parts| parts[index].name = name.as_bytes().to_vec());
    vec![
        no("empty", Vec::new(), "shorter than a tar header"),
        no("text", b"hello ".repeat(200), "does not start with"),
        no("zeros", vec![0; 10240], "does not start with"),
        no(
            "another magic",
            tar(&sealed(honest()).into_iter().map(|part| Part { magic: *b"ustar\x0001", ..part }).collect::<Vec<_>>()),
            "does not start with",
        ),
        no("packed as a whole", zstd::bulk::compress(&tampered(|_| {}), 1).unwrap(), "does not start with"),
        no("absolute", renamed(2, "/image.tar"), "absolute"),
        no("absolute and deep", renamed(2, "/foo-1/image.tar"), "absolute"),
        no("nested", renamed(2, "foo-1/image/image.tar"), "more than one folder"),
        no("in no folder", renamed(2, "image.tar"), "in no folder"),
        no("two prefixes", renamed(2, "foo-2/image.tar"), "another folder"),
        no("dot prefix", renamed(2, "./image.tar"), "no proper name"),
        no("a folder", tampered(|parts| parts.insert(0, Part::of_kind(b'5', "foo-1/", ""))), "no proper name"),
        no(
            "a folder below",
            tampered(|parts| parts.insert(0, Part::of_kind(b'5', "foo-1/image", ""))),
            "no regular file",
        ),
        no("nameless", tampered(|parts| parts.push(Part::new("foo-1/", ""))), "no proper name"),
        no("twice", tampered(|parts| parts.push(Part::new("foo-1/image.tar", "x"))), "there twice"),
        no("Manifest twice", tampered(|parts| parts.push(parts[3].clone())), "there twice"),
        no("no gpkg-1", changed(|parts| drop(parts.remove(0))), "no gpkg-1"),
        no("no metadata", changed(|parts| drop(parts.remove(1))), "no metadata.tar"),
        no("no image", changed(|parts| drop(parts.remove(2))), "no image.tar"),
        no("no Manifest", tar(&honest()), "no Manifest"),
        no("unknown suffix", changed(|parts| parts[1].name = b"foo-1/metadata.tar.rar".to_vec()), "no metadata.tar"),
        no("a member not listed", tampered(|parts| parts.push(Part::new("foo-1/extra", "x"))), "not in its Manifest"),
        no("a member gone", tampered(|parts| drop(parts.remove(0))), "no gpkg-1"),
        no("another size", tampered(|parts| parts[2].data.push(b'x')), "bytes, its Manifest says"),
        no("another byte", tampered(|parts| parts[2].data[600] ^= 1), "BLAKE2B and SHA512 digests"),
        no("another gpkg-1", tampered(|parts| parts[0].data = b"x".to_vec()), "bytes, its Manifest says"),
        no(
            "a symbolic link",
            tampered(|parts| {
                parts.push(Part { link: b"/etc/passwd", ..Part::of_kind(b'2', "foo-1/link", "") });
            }),
            "no regular file",
        ),
        no("a device", tampered(|parts| parts.push(Part::of_kind(b'3', "foo-1/device", ""))), "no regular file"),
        no(
            "a size below zero",
            tampered(|parts| {
                parts[2] = parts[2].clone().sized(&[0xff; 12]);
            }),
            "negative",
        ),
        no(
            "a size of 2^63",
            tampered(|parts| {
                parts[2] = parts[2].clone().sized(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]);
            }),
            "ends at byte",
        ),
        no(
            "a size of 2^64 - 1",
            tampered(|parts| {
                parts[2] = parts[2].clone().sized(&[0x80, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
            }),
            "too large",
        ),
        no(
            "a size of 2^87",
            tampered(|parts| {
                parts[2] = parts[2].clone().sized(&[0x80, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            }),
            "too large",
        ),
        no("a size beyond the end", tampered(|parts| parts[2] = parts[2].clone().sized(b"77777777777")), "cut short"),
        no("a size in letters", tampered(|parts| parts[2] = parts[2].clone().sized(b"x")), "no number"),
        no("a first header with a bad sum", tampered(|parts| parts[0].wrong_sum = 1), "unreadable from byte 0"),
        no("a header with a bad sum", tampered(|parts| parts[2].wrong_sum = 1), "unreadable from byte"),
        no("a Manifest header with a bad sum", tampered(|parts| parts[3].wrong_sum = 1), "unreadable from byte"),
        no("a sparse file", tampered(|parts| parts[2].kind = b'S'), "sparse"),
        no("a name that is no UTF-8", changed(|parts| parts.push(Part::new(b"foo-1/\xff\xfe", "x"))), "no UTF-8"),
        no(
            "an end in the middle",
            tampered(|parts| {
                let end = vec![0; 1024];
                parts[1].data.splice(0..0, end);
                parts[1] = parts[1].clone().sized(b"00000000000");
            }),
            "no Manifest",
        ),
    ]
}

/// Long names and PAX headers that say something else than the member's own header.
fn wrong_extensions() -> Vec<Case> {
    let no = |name, bytes, ours: &'static str| case(name, bytes, ours, Refuses);
    let before_image = |part: Part| tampered(|parts| parts.insert(2, part));
    let long = |data: &[u8]| Part::of_kind(b'L', "././@LongLink", data);
    vec![
        no("PAX path elsewhere", before_image(pax(&[("path", "/etc/passwd")])), "absolute"),
        no("PAX path nested", before_image(pax(&[("path", "foo-1/a/b")])), "more than one folder"),
        no("PAX path up", before_image(pax(&[("path", "../image.tar")])), "no proper name"),
        no("PAX path of another member", before_image(pax(&[("path", "foo-1/gpkg-1")])), "there twice"),
        no("PAX size too small", before_image(pax(&[("size", "512")])), "no Manifest"),
        no("PAX size too large", before_image(pax(&[("size", "99999999")])), "cut short"),
        no("PAX size overflows", before_image(pax(&[("size", "99999999999999999999999")])), "bad number"),
        no("PAX sparse", before_image(pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")])), "sparse"),
        no(
            "PAX path for all",
            tampered(|parts| {
                parts.insert(0, Part::of_kind(b'g', "pax_global_header", record("path", "foo-1/image.tar")));
            }),
            "to all members",
        ),
        no(
            "PAX and then the end",
            {
                let mut parts = sealed(honest());
                parts.push(pax(&[("path", "foo-1/x")]));
                tar(&parts)
            },
            "after a long name or PAX header",
        ),
        no(
            "PAX and then junk",
            tampered(|parts| {
                parts[2].wrong_sum = 1;
                parts.insert(2, pax(&[("path", "foo-1/x")]));
            }),
            "after a long name or PAX header",
        ),
        no("a long name elsewhere", before_image(long(b"/etc/passwd\0")), "absolute"),
        no("a long name that is no UTF-8", before_image(long(b"foo-1/\xff\0")), "no UTF-8"),
        no(
            "a long name and then the end",
            {
                let mut parts = sealed(honest());
                parts.push(long(b"foo-1/x\0"));
                tar(&parts)
            },
            "after a long name or PAX header",
        ),
        no("a long name without end", before_image(long(b"").sized(b"77777777777")), "more than 1 MiB"),
        no(
            "a long name beyond the end",
            {
                let mut bytes = members(&sealed(honest()));
                bytes.extend(members(&[long(b"").sized(b"00000010000")]));
                bytes
            },
            "cut short",
        ),
    ]
}

/// Manifests that say something wrong.
fn wrong_manifests() -> Vec<Case> {
    let no = |name, bytes, ours: &'static str| case(name, bytes, ours, Refuses);
    vec![
        no("empty Manifest", listed(|_| String::new()), "not in its Manifest"),
        no("another kind of line", listed(|text| text.replace("DATA image", "DIST image")), "no DATA line"),
        no("a line twice", listed(|text| text.repeat(2)), "second time"),
        no(
            "a line for nothing",
            listed(|text| format!("{text}{}", line(&Part::new("foo-1/more", "x")))),
            "not in the package",
        ),
        no(
            "a line for itself",
            listed(|text| format!("{text}{}", line(&Part::new("foo-1/Manifest", "x")))),
            "not in the package",
        ),
        no("no SHA512", listed(|text| text.replace(" SHA512 ", " SHA3_512 ")), "no SHA512"),
        no("no BLAKE2B", listed(|text| text.replace(" BLAKE2B ", " BLAKE2S ")), "no BLAKE2B"),
        no(
            "no digest",
            listed(|text| text.lines().map(|line| line.split(" BLAKE2B").next().unwrap().to_owned() + "\n").collect()),
            "no BLAKE2B",
        ),
        no(
            "a wrong BLAKE2B",
            listed(|text| {
                text.replace("BLAKE2B ", "BLAKE2B 00")
                    .lines()
                    .map(|line| {
                        let (start, rest) = line.split_once(" SHA512").unwrap();
                        format!("{} SHA512{rest}\n", &start[..start.len() - 2])
                    })
                    .collect()
            }),
            "has other BLAKE2B digest",
        ),
        no(
            "a wrong SHA512",
            listed(|text| {
                text.lines()
                    .map(|line| {
                        let end = if line.ends_with('0') { '1' } else { '0' };
                        format!("{}{end}\n", &line[..line.len() - 1])
                    })
                    .collect()
            }),
            "has other SHA512 digest",
        ),
        no("a short digest", listed(|text| text.replace("BLAKE2B ", "BLAKE2B 0 X ")), "128 hex digits"),
        no("a size in letters", listed(|text| text.replace("gpkg-1 0", "gpkg-1 x")), "no number"),
        no("a size below zero", listed(|text| text.replace("gpkg-1 0", "gpkg-1 -5")), "no number"),
        no("no size", listed(|_| "DATA gpkg-1\n".to_owned()), "no size"),
        no("no name", listed(|_| "DATA\n".to_owned()), "names no file"),
        no("no UTF-8", tampered(|parts| parts[3].data[3] = 0xff), "no DATA line"),
        no(
            "a signature that nothing backs",
            changed(|parts| parts.push(Part::new("foo-1/image.tar.sig", "x"))),
            "no signature",
        ),
    ]
}

/// Metadata that is wrong.
fn wrong_metadata() -> Vec<Case> {
    let no = |name, bytes, ours: &'static str| case(name, bytes, ours, Refuses);
    let archive = |parts: &[Part]| described("metadata.tar", tar(parts));
    vec![
        no("metadata is text", described("metadata.tar", b"hello ".repeat(200)), "empty or no tar"),
        no("metadata elsewhere", archive(&[Part::new("image/PF", "x")]), "not below metadata/"),
        no("metadata at the root", archive(&[Part::new("PF", "x")]), "not below metadata/"),
        no("a folder in the metadata", archive(&[Part::of_kind(b'5', "metadata/a/", "")]), "no regular file"),
        no(
            "a link in the metadata",
            archive(&[Part { link: b"/etc/passwd", ..Part::of_kind(b'2', "metadata/a", "") }]),
            "no regular file",
        ),
        no("metadata cut short", described("metadata.tar", metadata(&ENTRIES)[..1800].to_vec()), "cut short"),
        no("metadata in another packing", described("metadata.tar.zst", metadata(&ENTRIES)), "cannot unpack"),
    ]
}

/// Refused by us alone, since it is ambiguous or unsafe.
fn stricter() -> Vec<Case> {
    let only = |name, bytes, ours: &'static str| case(name, bytes, ours, Accepts);
    let two = |part: Part| {
        tampered(move |parts| {
            parts.insert(2, part.clone());
            parts.insert(2, part);
        })
    };
    let long = || Part::of_kind(b'L', "././@LongLink", "foo-1/image.tar\0");
    let archive = metadata(&ENTRIES);
    let packed = zstd_of(&archive);
    vec![
        only(
            "a prefix that leads up",
            tampered(|parts| parts.iter_mut().for_each(|part| drop(part.name.splice(..5, *b"..")))),
            "no proper name",
        ),
        only(
            "two metadata archives",
            changed(|parts| parts.push(Part::new("foo-1/metadata.tar.gz", "x"))),
            "second archive",
        ),
        only("two image archives", changed(|parts| parts.push(Part::new("foo-1/image.tar.gz", "x"))), "second archive"),
        only("two PAX headers", two(pax(&[("comment", "x")])), "second PAX header"),
        only("two long names", two(long()), "second long name"),
        only(
            "PAX path and long name",
            tampered(|parts| {
                parts.insert(2, pax(&[("path", "foo-1/image.tar")]));
                parts.insert(2, long());
            }),
            "two long names",
        ),
        only("a bad PAX record", tampered(|parts| parts.insert(2, Part::of_kind(b'x', "x", "hello"))), "bad record"),
        only(
            "one PAX path twice",
            tampered(|parts| parts.insert(2, pax(&[("path", "foo-1/image.tar"), ("path", "foo-1/image.tar")]))),
            "one thing twice",
        ),
        only(
            "a symbolic link to a member",
            {
                let mut parts = sealed(honest());
                let twin = Part { name: b"foo-1/twin".to_vec(), ..parts[2].clone() };
                parts[3].data.extend(line(&twin).into_bytes());
                let size = format!("{:011o}", twin.data.len()).into_bytes();
                parts.push(Part { link: b"image.tar", data: Vec::new(), kind: b'2', ..twin }.sized(&size));
                tar(&parts)
            },
            "no regular file",
        ),
        only("an unknown type", tampered(|parts| parts[2].kind = b'Z'), "no regular file"),
        only(
            "a bad number in a header after everything",
            tampered(|parts| parts.push(Part::new("foo-1/x", "").sized(b"x"))),
            "no number",
        ),
        only("metadata twice", described("metadata.tar", metadata(&[("PF", b"x"), ("PF", b"y")])), "there twice"),
        only("metadata up", described("metadata.tar", metadata(&[("../PF", b"x")])), "no proper name"),
        only("empty metadata", described("metadata.tar", vec![0; 10240]), "empty or no tar"),
        only("junk after zstd", described("metadata.tar.zst", [&packed[..], b"junk"].concat()), "cannot unpack"),
    ]
}

/// Refused for its size; Portage would take the memory.
fn bombs() -> Vec<Case> {
    let bomb = zstd_of(&vec![0; 130 << 20]);
    assert!(bomb.len() < 64 << 10);
    let many: Vec<Part> = (0..5000).map(|number| Part::new(format!("metadata/{number}"), "")).collect();
    let members: Vec<Part> = (0..1100).map(|number| Part::new(format!("foo-1/{number}"), "")).collect();
    vec![
        case("a bomb", described("metadata.tar.zst", bomb), "more than the 134217728 bytes", Accepts),
        case("many entries", described("metadata.tar", tar(&many)), "one too many", Accepts),
        case("many members", changed(|parts| parts.extend(members)), "one too many", Accepts),
    ]
}

fn table() -> Vec<Case> {
    [odd(), wrong_containers(), wrong_extensions(), wrong_manifests(), wrong_metadata(), stricter(), bombs()]
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn odd_and_malformed_containers() {
    let mut portage = Oracle::start();
    let mut failures = Vec::new();
    for Case { name, bytes, ours, portage: expected } in table() {
        let seen = examine(&bytes);
        match (&seen, ours) {
            (Ok(_), None) => {}
            (Err(error), Some(words)) if error.to_string().contains(words) => {
                assert!(error.to_string().contains("foo-1.gpkg.tar"), "{name}: {error}");
            }
            (seen, _) => failures.push(format!("{name}: we say {seen:.200?}")),
        }
        let Some(portage) = portage.as_mut() else { continue };
        let answer = portage.try_ask(&read_request(&bytes));
        match (&answer, expected) {
            (Ok(answer), Accepts) => {
                if let Ok(seen) = seen {
                    seen.assert_same(answer, name);
                }
            }
            (Err(_), Refuses) => {}
            (answer, _) => failures.push(format!("{name}: Portage says {answer:.300?}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn cut_short_anywhere() {
    let whole = tar(&sealed(honest()));
    let needed = members(&sealed(honest())).len();
    let mut portage = Oracle::start();
    let lengths = (0..whole.len()).step_by(512).flat_map(|at| [at, at + 1, at + 100, at + 511]);
    for length in lengths.filter(|length| *length < whole.len()) {
        let bytes = &whole[..length];
        let seen = examine(bytes);
        assert_eq!(seen.is_ok(), length >= needed, "{length}: {seen:?}");
        if let Some(portage) = portage.as_mut().filter(|_| length % 512 < 2) {
            let answer = portage.try_ask(&read_request(bytes));
            assert_eq!(answer.is_ok(), seen.is_ok(), "{length}: {answer:?}");
        }
    }
}
