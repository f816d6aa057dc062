//! What stays, what is put in, and what is refused.

use super::*;

const SAMPLE: &str = "ARCH: amd64\nPACKAGES: 3\nTIMESTAMP: 1\nVERSION: 0\nX-MINE: kept\n\n\
    BUILD_ID: 1\nCPV: a/z-10\nPATH: a/z/z-10-1.gpkg.tar\nSIZE: 5\nMTIME: 7\nREPO: gentoo\n\n\
    BUILD_ID: 1\nCPV: a/z-9\nPATH: a/z/z-9-1.gpkg.tar\nRDEPEND: dev-util/strace\nUNKNOWN: stays\nMTIME: 7\n\n\
    CPV: b/old-1\nMTIME: 7\n\n";

fn sample() -> PackageIndex {
    PackageIndex::parse(SAMPLE.into(), Path::new("Packages")).unwrap()
}

#[test]
fn unedited_entries_stay_byte_for_byte() {
    let out = String::from_utf8(sample().render(2)).unwrap();
    assert_eq!(out, SAMPLE.replace("TIMESTAMP: 1", "TIMESTAMP: 2"));
}

#[test]
fn an_injected_entry_replaces_its_path_and_keeps_unknown_keys() {
    let mut index = sample();
    let number = index.at_path("a/z/z-9-1.gpkg.tar")[0];
    let mut entry = index.entry(number).unwrap();
    entry.set("RDEPEND", "dev-debug/strace");
    entry.set("SLOT", "2");
    entry.set("SIZE", "99");
    index.inject_all(vec![entry]);
    let out = String::from_utf8(index.render(2)).unwrap();
    assert_eq!(
        out,
        SAMPLE
            .replace("TIMESTAMP: 1", "TIMESTAMP: 2")
            .replace("RDEPEND: dev-util/strace\nUNKNOWN", "RDEPEND: dev-debug/strace\nSIZE: 99\nSLOT: 2\nUNKNOWN")
    );
}

#[test]
fn slot_zero_is_left_out() {
    let mut entry = Entry::from_text("CPV: a/b-1\nSLOT: 2\nMTIME: 1");
    entry.set("SLOT", "0");
    assert_eq!(entry.to_text(), "CPV: a/b-1\nMTIME: 1\n");
    entry.set("SLOT", "3");
    assert_eq!(entry.to_text(), "CPV: a/b-1\nSLOT: 3\nMTIME: 1\n");
}

#[test]
fn a_new_entry_comes_last_among_its_equals_and_is_counted() {
    let mut index = sample();
    index.inject_all(vec![Entry::from_text("BUILD_ID: 2\nCPV: a/z-10\nPATH: a/z/z-10-2.gpkg.tar\nMTIME: 8")]);
    let out = String::from_utf8(index.render(2)).unwrap();
    assert!(out.contains("PACKAGES: 4\n"));
    let first = out.find("z-10-1.gpkg.tar").unwrap();
    let second = out.find("z-10-2.gpkg.tar").unwrap();
    let nine = out.find("CPV: a/z-9").unwrap();
    assert!(first < second && second < nine);
}

#[test]
fn entries_without_path_are_xpak_files() {
    assert_eq!(sample().at_path("b/old-1.tbz2"), vec![2]);
}

#[test]
fn entries_come_in_order_and_are_found_by_their_paths() {
    let text = SAMPLE.to_owned() + "PATH: nothing\n\nCPV: a/z-9\nPATH: a/z/z-9-1.gpkg.tar\n\n";
    let index = PackageIndex::parse(text.into(), Path::new("Packages")).unwrap();
    let builds: Vec<_> = index.entries().map(|entry| entry.get("CPV").map(str::to_owned)).collect();
    let wanted = [Some("a/z-10"), Some("a/z-9"), Some("b/old-1"), None, Some("a/z-9")];
    assert_eq!(builds, wanted.map(|cpv| cpv.map(str::to_owned)));
    let by_path = index.by_path();
    assert_eq!(by_path.len(), 3, "a block without CPV has no file: {by_path:?}");
    for (path, numbers) in
        [("a/z/z-9-1.gpkg.tar", vec![1, 4]), ("a/z/z-10-1.gpkg.tar", vec![0]), ("b/old-1.tbz2", vec![2])]
    {
        assert_eq!(by_path.get(path), Some(&numbers));
        assert_eq!(index.at_path(path), numbers);
    }
}

#[test]
fn a_header_without_a_supported_version_is_refused() {
    for header in ["PACKAGES: 0\n\n", "", "VERSION: 1\n\n", "VERSION: x\n\nCPV: a/b-1\n\n"] {
        let error = PackageIndex::parse(header.into(), Path::new("/p/Packages")).unwrap_err();
        assert!(error.to_string().contains("/p/Packages"), "{error}");
    }
}

#[test]
fn what_follows_two_blank_lines_is_kept_and_not_read() {
    let text = "VERSION: 0\n\nCPV: a/b-1\n\n\nCPV: c/d-1\n\n";
    let index = PackageIndex::parse(text.into(), Path::new("Packages")).unwrap();
    assert_eq!(index.len(), 1);
    assert!(String::from_utf8(index.render(1)).unwrap().ends_with("CPV: a/b-1\n\n\nCPV: c/d-1\n\n"));
}

#[test]
fn odd_lines_and_bytes_survive() {
    let text = b"VERSION: 0\n\nno colon here\nCPV: a/b-1\nDESC: \xff\xfe\nEMPTY:\n\n".to_vec();
    let index = PackageIndex::parse(text.clone(), Path::new("Packages")).unwrap();
    let out = index.render(1);
    assert!(out.ends_with(&text[12..]));
    assert_eq!(index.entry(0).unwrap().get("EMPTY"), Some(""));
}

#[test]
fn the_compressed_index_unpacks_to_the_same_bytes() {
    let bytes = sample().render(5);
    let packed = PackageIndex::compress(&bytes, 5).unwrap();
    assert_eq!(&packed[4..8], &5u32.to_le_bytes());
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed[..]), &mut unpacked).unwrap();
    assert_eq!(unpacked, bytes);
}

#[test]
fn every_error_is_told() {
    let path = Path::new("/pkgdir/Packages");
    let versions = ["PACKAGES: 0\n\n", "VERSION: x\n\n", "VERSION: 1\n\n"];
    let mut told: Vec<String> = versions
        .iter()
        .map(|text| PackageIndex::parse(text.as_bytes().to_vec(), path).unwrap_err().to_string())
        .collect();
    told.push(IndexError::Compress(std::io::Error::from(std::io::ErrorKind::StorageFull)).to_string());
    insta::assert_snapshot!("index-errors", told.join("\n"));
}
