use std::io::Write;
use std::path::Path;

use super::archive::{Attributes, Format, TarEntry, TarWalk};
use super::digest::{BLOCK, DigestPair, FileDigester, FilePart};
use super::header::{self, header};
use super::{Codec, Compression, GpkgError, Manifest, ManifestLine, MemberKind, Metadata, file_digests};

const PATH: &str = "foo-1.gpkg.tar";

fn path() -> &'static Path {
    Path::new(PATH)
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A codec whose bzip2 is any two commands.
fn codec(pack: &str, unpack: &str) -> Codec {
    let words = |command: &str| {
        let command = command.replace("${PORTAGE_BUNZIP2_COMMAND}", unpack).replace("${PORTAGE_BZIP2_COMMAND}", pack);
        Some(command.split(' ').filter(|word| !word.starts_with('$')).map(|word| word.replace('_', " ")).collect())
    };
    Codec::from_portage(|_| None, words)
}

fn unpack(command: &str, bytes: &[u8], limit: u64) -> Result<Vec<u8>, GpkgError> {
    codec("cat", command).unpack(bytes, Compression::Bzip2, limit, path())
}

#[test]
fn names_of_archives() {
    for compression in Compression::PACKING.into_iter().chain([Compression::None]) {
        assert_eq!(Compression::of_archive(&compression.archive_name("image"), "image"), Some(compression));
        assert_eq!(Compression::from_setting(compression.name()), Some(compression));
    }
    assert_eq!(Compression::from_setting(""), Some(Compression::None));
    assert_eq!(Compression::from_setting("brotli"), None);
    for name in ["image.tar.rar", "image", "image.tar.", "images.tar", "image.tar.zst.sig"] {
        assert_eq!(Compression::of_archive(name, "image"), None, "{name}");
    }
}

#[test]
fn digests_do_not_depend_on_chunks() {
    for length in [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 9 << 20, (9 << 20) + 77] {
        let bytes = noise(length + 10);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let part = |offset, first| FilePart { file: &file, offset, size: length as u64, first };
        for first in [0, 1, 4095, 2 << 20] {
            let mut seen = Vec::new();
            let mut others = FileDigester::default();
            let digests = DigestPair::stream(&part(10, first), &mut others.parts(), |chunk| {
                assert!(length <= 1 << 20 || chunk.as_ptr().align_offset(BLOCK) == 0);
                seen.extend_from_slice(chunk);
                Ok(())
            });
            assert!(seen == bytes[10..]);
            assert_eq!(digests.unwrap(), DigestPair::of(&bytes[10..]), "{length}");
            let mut alone = FileDigester::default();
            alone.update(&seen);
            assert_eq!(others.finish(0), alone.finish(0));
        }
        // a sink that breaks, and a file that is too short, end it at once
        let full = || Err(std::io::ErrorKind::StorageFull.into());
        assert!(length == 0 || DigestPair::stream(&part(10, 0), &mut [], |_| full()).is_err());
        assert!(length == 0 || DigestPair::stream(&part(11, 0), &mut [], |_| Ok(())).is_err());
    }
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"abc").unwrap();
    let digests = file_digests(&file).unwrap();
    assert_eq!(digests.md5, "900150983cd24fb0d6963f7d28e17f72");
    assert_eq!(digests.sha1, "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_eq!(digests.size, 3);
    assert!(DigestPair::of(b"abc").sha512.starts_with("ddaf35a193617abacc417349ae204131"));
    assert!(DigestPair::of(b"abc").blake2b.starts_with("ba80a53f981c4d0d6a2797b69f12f6e9"));
}

#[test]
fn headers_come_back() {
    let attributes =
        Attributes { mode: 0o640, uid: 250, gid: 3, mtime: 1 << 32, uname: b"me".to_vec(), gname: b"\xff".to_vec() };
    let long = format!("{}/{}", "p".repeat(155), "n".repeat(100));
    for format in [Format::Ustar, Format::Gnu] {
        for name in ["a/b", long.as_str(), &long[..256]] {
            for size in [0, 1, 512, 8_589_934_591] {
                let header = header(format, name, size, &attributes);
                let mut walk = TarWalk::new(header.as_slice(), u64::MAX >> 1);
                let TarEntry { name: found, regular, size: bytes, offset, attributes: same } =
                    walk.next().unwrap().unwrap();
                assert_eq!((found.as_str(), regular, bytes, &same), (name, true, size, &attributes));
                assert_eq!(offset, header.len() as u64);
            }
        }
    }
    let huge = header(Format::Gnu, "a/b", 1 << 40, &Attributes { uid: 1 << 30, ..attributes });
    let entry = TarWalk::new(huge.as_slice(), u64::MAX >> 1).next().unwrap().unwrap();
    assert_eq!((entry.size, entry.attributes.uid), (1 << 40, 1 << 30));
    assert!(header::fits_ustar(&long) && !header::fits_ustar(&format!("p{long}")));
    assert!(!header::fits_ustar(&format!("{long}n")) && !header::fits_ustar(&"n".repeat(101)));
    assert_eq!([0, 1, 9215, 9216, 9217].map(header::archive_length), [10240, 10240, 10240, 10240, 20480]);
}

#[test]
fn a_checksum_of_signed_characters() {
    let mut block = header(Format::Ustar, "a/\u{e9}", 0, &Attributes::new(0));
    assert!(TarWalk::new(block.as_slice(), 512).next().unwrap().is_some());
    let sum = block.iter().enumerate().filter(|(at, _)| !(148..156).contains(at));
    let sum: i32 = 256 + sum.map(|(_, byte)| i32::from(i8::from_ne_bytes([*byte]))).sum::<i32>();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    assert!(TarWalk::new(block.as_slice(), 512).next().unwrap().is_some());
    block[148..155].copy_from_slice(format!("{:06o}\0", sum + 1).as_bytes());
    assert!(TarWalk::new(block.as_slice(), 512).next().unwrap().is_none());
}

#[test]
fn metadata_keeps_its_order() {
    let mut metadata = Metadata::default();
    for name in ["c", "a", "b", "d"] {
        metadata.set(name, name.into());
    }
    metadata.set("a", b"new".to_vec());
    metadata.rename("c", "d");
    metadata.rename("nothing", "a");
    metadata.rename("b", "b");
    metadata.set("e", Vec::new());
    assert_eq!(metadata.remove("b"), Some(b"b".to_vec()));
    assert_eq!(metadata.remove("b"), None);
    let entries: Vec<_> = metadata.iter().collect();
    assert_eq!(entries, [("d", b"c".as_slice()), ("a", b"new"), ("e", b"")]);
    assert_eq!((metadata.get("e"), metadata.get("c")), (Some(b"".as_slice()), None));
}

#[test]
fn metadata_comes_back() {
    let mut metadata = Metadata::default();
    metadata.set("PF", b"foo-1\n".to_vec());
    metadata.set("\u{fc}", b"\xff\0".to_vec());
    // 93 is the most that Portage could write
    for length in [91, 92, 100, 101, 300] {
        metadata.set(&"k".repeat(length), noise(length * 9));
    }
    for compression in [Compression::None, Compression::Zstd] {
        let packed = metadata.pack(1_700_000_000, compression, &Codec::default(), path()).unwrap();
        assert_eq!(Metadata::read(&packed, compression, &Codec::default(), path()).unwrap(), metadata);
        // cut at the start of a header, an archive that is not packed just ends, for Portage too
        let cut = Metadata::read(&packed[..packed.len() / 3], compression, &Codec::default(), path());
        assert!(cut.is_err() == (compression == Compression::Zstd));
    }
}

#[test]
fn zstd_flags() {
    let settings = |flags: &'static str| {
        Codec::from_portage(
            move |name| (name == "BINPKG_COMPRESS_FLAGS_ZSTD").then(|| flags.to_owned()),
            move |command| {
                let command = command.replace("${BINPKG_COMPRESS_FLAGS_ZSTD}", flags);
                Some(command.split(' ').map(str::to_owned).collect())
            },
        )
    };
    let bytes = [noise(300_000), noise(300_000)].concat();
    let size = |flags: &'static str| {
        let codec = settings(flags);
        let packed = codec.pack(&bytes, Compression::Zstd, path()).unwrap();
        assert_eq!(codec.unpack(&packed, Compression::Zstd, 600_000, path()).unwrap(), bytes, "{flags}");
        packed.len()
    };
    // only a window of 2^19 or more sees that the second half repeats the first
    assert!(size("--long=31 -1") < 310_000 && size("-T4 --long=10 -1") > 590_000);
    for flags in ["", "-3", "-0", "-19", "-22", "--ultra -20 -T0", "--long", "-1 -T2 -9"] {
        size(flags);
    }
    // another program than zstd is run
    let words =
        |command: &str| Some(command.replace("zstd", "/nonexistent/zstd").split(' ').map(str::to_owned).collect());
    let refused = Codec::from_portage(|_| None, words).pack(b"x", Compression::Zstd, path()).unwrap_err();
    assert!(matches!(refused, GpkgError::Start { program, .. } if program == "/nonexistent/zstd"));
}

#[test]
fn bombs_are_given_up() {
    let bomb = zstd::bulk::compress(&vec![0; 100 << 20], 1).unwrap();
    let refused = Codec::default().unpack(&bomb, Compression::Zstd, 1 << 20, path()).unwrap_err();
    assert!(matches!(refused, GpkgError::TooLarge { .. }), "{refused}");
    // a program is stopped, though there would be no end of what it says
    let refused = unpack("yes", &noise(10 << 20), 1 << 20).unwrap_err();
    assert!(matches!(refused, GpkgError::TooLarge { .. }), "{refused}");
    assert_eq!(unpack("cat", b"1234", 4).unwrap(), b"1234");
    assert!(matches!(unpack("cat", b"12345", 4).unwrap_err(), GpkgError::TooLarge { .. }));
}

#[test]
fn programs_and_their_pipes() {
    // more than a pipe holds, both ways
    let bytes = noise(20 << 20);
    assert!(unpack("cat", &bytes, 1 << 30).unwrap() == bytes);
    // one that does not read
    assert_eq!(unpack("true", &bytes, 1 << 30).unwrap(), b"");
    // one that says much on stderr
    let talks = "sh -c cat;seq_1_200000_>&2;exit_3";
    let refused = unpack(talks, &bytes, 1 << 30).unwrap_err();
    let GpkgError::Failed { program, status, words, .. } = &refused else { panic!("{refused}") };
    assert_eq!((program.as_str(), status.code()), ("sh", Some(3)));
    assert!(words.starts_with(": 1\n2\n") && words.len() < 5000);
    assert!(matches!(unpack("/nonexistent", b"", 9).unwrap_err(), GpkgError::Start { .. }));
    let refused = codec("", "").unpack(b"", Compression::Bzip2, 9, path());
    // without a command to unpack, it is the one that packs with -d
    assert!(matches!(refused.unwrap_err(), GpkgError::Start { program, .. } if program == "-d"));
    let refused = Codec::default().pack(b"", Compression::Bzip2, path()).unwrap_err();
    assert!(refused.to_string().contains("no command to pack bzip2"), "{refused}");
}

#[test]
fn manifest_lines() {
    let line = ManifestLine::of("image.tar.zst", b"abc");
    let digests = DigestPair::of(b"abc");
    let text = format!("DATA image.tar.zst 3 BLAKE2B {} SHA512 {}", digests.blake2b, digests.sha512);
    assert_eq!(Manifest::new(vec![line.clone()], path()).render(), format!("{text}\n"));
    let manifest = Manifest::parse(&format!("\r\n  {text} \r\n"), path()).unwrap();
    assert_eq!(manifest.line("image.tar.zst").unwrap(), &line);
    assert_eq!(manifest.render(), format!("{text}\n"));
    assert!(manifest.line(MemberKind::MANIFEST).is_err());
    for (bad, words) in [
        (text.replace("DATA", "data"), "no DATA line"),
        (text.replace(" 3 ", " +3 "), "no number"),
        (text.replace(" 3 ", " 99999999999999999999 "), "no number"),
        (text.replace(" 3 ", "\u{b}3 "), "control characters"),
        (format!("{text} MD5"), "without a digest"),
        (format!("{text} SHA512 {}", digests.sha512), "two digests"),
        (text.replace(&digests.sha512, &digests.sha512.replace('d', "g")), "hex digits"),
    ] {
        let refused = Manifest::parse(&format!("\n{bad}\n"), path()).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("{PATH}: Manifest line 2: ")) && refused.contains(words), "{refused}");
    }
}
