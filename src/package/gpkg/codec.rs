//! Packing and unpacking: zstd in process, everything else with the programs that Portage would run.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::LazyLock;

use regex::Regex;

use super::{Compression, GpkgError};
use crate::children::start;

/// Portage's command lines (`portage.util.compression_probe._compressors`): to pack, to unpack, and to unpack where that
/// one turns out empty.
fn templates(compression: Compression) -> (&'static str, &'static str, &'static str) {
    match compression {
        Compression::None => ("", "", ""),
        Compression::Bzip2 => {
            ("${PORTAGE_BZIP2_COMMAND} {FLAGS}", "${PORTAGE_BUNZIP2_COMMAND}", "${PORTAGE_BZIP2_COMMAND} -d")
        }
        Compression::Gzip => ("gzip {FLAGS}", "gzip -d", ""),
        Compression::Lz4 => ("lz4 {FLAGS}", "lz4 -d", ""),
        Compression::Lzip => ("lzip {FLAGS}", "lzip -d", ""),
        Compression::Lzop => ("lzop {FLAGS}", "lzop -d", ""),
        Compression::Xz => ("xz -T{JOBS} --memlimit-compress=50% -q {FLAGS}", "xz -T{JOBS} -d", ""),
        Compression::Zstd => ("zstd -T{JOBS} {FLAGS}", "zstd -d --long=31", ""),
    }
}

/// The most that is kept of what a program says on stderr, in bytes.
const WORDS_LIMIT: usize = 4096;

/// How archives are packed and unpacked.
#[derive(Debug, Clone, Default)]
pub struct Codec {
    commands: BTreeMap<Compression, Commands>,
    zstd: Zstd,
}

/// A program with its arguments, to pack and to unpack. Empty if there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Commands {
    pack: Vec<String>,
    unpack: Vec<String>,
}

/// How zstd packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zstd {
    /// In process.
    InProcess {
        /// The level, from 1 to 22.
        level: i32,
        /// With `--long`, the logarithm of the window.
        long: Option<u32>,
    },
    /// With the program, because its flags ask for something else.
    Program,
}

impl Default for Zstd {
    fn default() -> Self {
        Zstd::InProcess { level: 3, long: None }
    }
}

impl Zstd {
    /// What `words`, the command that packs, comes to. Numbers of threads do not matter for so little data.
    fn from_command(words: &[String]) -> Zstd {
        let mut level = 3;
        let mut long = None;
        let mut most = 19;
        let Some(("zstd", flags)) = words.split_first().map(|(program, flags)| (program.as_str(), flags)) else {
            return Zstd::Program;
        };
        for flag in flags {
            if flag == "--ultra" {
                most = 22;
            } else if flag == "--long" {
                long = Some(27);
            } else if let Some(window) = flag.strip_prefix("--long=").and_then(plain) {
                if !(10..=31).contains(&window) {
                    return Zstd::Program;
                }
                long = Some(window);
            } else if let Some(number) = flag.strip_prefix('-').and_then(plain) {
                level = number;
            } else if flag.strip_prefix("-T").and_then(plain).is_none() {
                return Zstd::Program;
            }
        }
        let level = if level == 0 { 3 } else { level.min(most) };
        Zstd::InProcess { level: i32::try_from(level).unwrap_or(3), long }
    }
}

fn plain(digits: &str) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

impl Codec {
    /// Forms the commands as `gpkg._get_binary_cmd` does. `setting` looks a setting up; `words` expands variables in a
    /// command (`varexpand`) and splits it as a shell would, `None` where it cannot be split.
    #[must_use]
    pub fn from_portage(
        setting: impl Fn(&str) -> Option<String>,
        words: impl Fn(&str) -> Option<Vec<String>>,
    ) -> Codec {
        let jobs = job_count(&setting("MAKEOPTS").unwrap_or_else(|| "1".to_owned())).to_string();
        let split = |command: String| -> Vec<String> {
            let words = words(&command.replace("{JOBS}", &jobs)).unwrap_or_default();
            words.into_iter().filter(|word| !word.is_empty()).collect()
        };
        let mut commands = BTreeMap::new();
        for compression in Compression::PACKING {
            let own = format!("BINPKG_COMPRESS_FLAGS_{}", compression.name().to_ascii_uppercase());
            let flags = if setting(&own).is_some() { own } else { "BINPKG_COMPRESS_FLAGS".to_owned() };
            let (pack, unpack, otherwise) = templates(compression);
            let mut unpack = split(unpack.to_owned());
            if unpack.is_empty() {
                unpack = split(otherwise.to_owned());
            }
            let pack = split(pack.replace("{FLAGS}", &format!("${{{flags}}}")));
            commands.insert(compression, Commands { pack, unpack });
        }
        let zstd = commands.get(&Compression::Zstd).map(|zstd| Zstd::from_command(&zstd.pack)).unwrap_or_default();
        Codec { commands, zstd }
    }

    /// The command lines that pack and unpack, with the program first; empty where there is none.
    ///
    /// zstd unpacks in process, and packs so unless its flags ask for more than a level and a window.
    #[must_use]
    pub fn commands(&self, compression: Compression) -> (&[String], &[String]) {
        self.commands.get(&compression).map_or((&[], &[]), |both| (&both.pack, &both.unpack))
    }

    /// Unpacks `packed`. `path` is the container, for messages.
    ///
    /// # Errors
    /// It cannot be unpacked, or comes to more than `limit` bytes: then it was given up before more was in memory.
    pub fn unpack(
        &self,
        packed: &[u8],
        compression: Compression,
        limit: u64,
        path: &Path,
    ) -> Result<Vec<u8>, GpkgError> {
        let unpacked = match compression {
            Compression::None => packed.to_vec(),
            Compression::Zstd => {
                unzstd(packed, limit).map_err(|source| packing("unpack", compression, path, source))?
            }
            _ => Codec::run("unpack", (compression, self.commands(compression).1), packed, limit, path)?,
        };
        if exceeds(unpacked.len(), limit) {
            return Err(GpkgError::TooLarge {
                path: path.to_owned(),
                what: "the unpacked metadata".to_owned(),
                limit: format!("{limit} bytes"),
            });
        }
        Ok(unpacked)
    }

    /// Packs `bytes`. `path` is the container, for messages.
    ///
    /// # Errors
    /// The program fails, or is not there.
    pub fn pack(&self, bytes: &[u8], compression: Compression, path: &Path) -> Result<Vec<u8>, GpkgError> {
        match (compression, self.zstd) {
            (Compression::None, _) => Ok(bytes.to_vec()),
            (Compression::Zstd, Zstd::InProcess { level, long }) => {
                zstd(bytes, level, long).map_err(|source| packing("pack", compression, path, source))
            }
            _ => Codec::run("pack", (compression, self.commands(compression).0), bytes, u64::MAX, path),
        }
    }

    fn run(
        action: &'static str,
        (compression, command): (Compression, &[String]),
        input: &[u8],
        limit: u64,
        path: &Path,
    ) -> Result<Vec<u8>, GpkgError> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(GpkgError::NoCommand { path: path.to_owned(), action, compression });
        };
        log::debug!("{}: {action} with {program} {arguments:?}", path.display());
        let ended = pipe(program, arguments, input, limit).map_err(|source| GpkgError::Start {
            path: path.to_owned(),
            program: program.clone(),
            source,
        })?;
        // one that was stopped for what it put out has no status of its own
        if !ended.status.success() && !exceeds(ended.output.len(), limit) {
            let words = String::from_utf8_lossy(&ended.words).trim().to_owned();
            return Err(GpkgError::Failed {
                path: path.to_owned(),
                program: program.clone(),
                status: ended.status,
                words: if words.is_empty() { words } else { format!(": {words}") },
            });
        }
        Ok(ended.output)
    }
}

fn packing(action: &'static str, compression: Compression, path: &Path, source: io::Error) -> GpkgError {
    GpkgError::Packing { path: path.to_owned(), action, compression, source }
}

fn exceeds(length: usize, limit: u64) -> bool {
    u64::try_from(length).unwrap_or(u64::MAX) > limit
}

/// Unpacks up to one byte more than `limit`.
fn unzstd(packed: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
    // as Portage's `--long=31`
    decoder.window_log_max(31)?;
    let mut unpacked = Vec::new();
    decoder.take(limit.saturating_add(1)).read_to_end(&mut unpacked)?;
    Ok(unpacked)
}

fn zstd(bytes: &[u8], level: i32, long: Option<u32>) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(u64::try_from(bytes.len()).ok())?;
    if let Some(window) = long {
        encoder.long_distance_matching(true)?;
        encoder.window_log(window)?;
    }
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// What a program came to.
struct Finished {
    status: ExitStatus,
    output: Vec<u8>,
    words: Vec<u8>,
}

/// Runs a program with `input` on stdin. Of its output at most one byte more than `limit` is taken; then it is killed.
fn pipe(program: &str, arguments: &[String], input: &[u8], limit: u64) -> io::Result<Finished> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = start(&mut command)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // whether it took everything is told by its exit status
            if let Some(mut stdin) = stdin {
                let _ = stdin.write_all(input);
            }
        });
        let words = scope.spawn(move || stderr.map_or(Vec::new(), first_words));
        let mut output = Vec::new();
        let read = stdout.map_or(Ok(0), |stdout| stdout.take(limit.saturating_add(1)).read_to_end(&mut output));
        if read.is_err() || exceeds(output.len(), limit) {
            child.kill()?;
        }
        let status = child.wait()?;
        read?;
        Ok(Finished { status, output, words: words.join().unwrap_or_default() })
    })
}

/// Reads to the end, and keeps the start.
fn first_words(mut source: impl Read) -> Vec<u8> {
    let mut words = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(read) = source.read(&mut buffer) {
        if read == 0 {
            break;
        }
        let room = WORDS_LIMIT.saturating_sub(words.len()).min(read);
        words.extend_from_slice(buffer.get(..room).unwrap_or_default());
    }
    words
}

/// The number of jobs in `MAKEOPTS`, else that of processors (`portage.util.cpuinfo.makeopts_to_job_count`).
///
/// Portage takes the last `j` before a number, and with `--jobs=` only a number after a space.
fn job_count(makeopts: &str) -> usize {
    let jobs = || JOBS.as_ref()?.captures(makeopts)?.get(1)?.as_str().parse().ok();
    jobs().unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

static JOBS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^.*(?:j|--jobs=(?-u:\s))(?-u:\s)*([0-9]+)").ok());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zstd_flags() {
        let of = |flags: &str| {
            Zstd::from_command(&format!("zstd {flags}").split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        let here = |level, long| Zstd::InProcess { level, long };
        for (flags, wanted) in [
            ("", here(3, None)),
            ("-T0", here(3, None)),
            ("-T8 -19 --long", here(19, Some(27))),
            ("-22", here(19, None)),
            ("--ultra -22 --long=31", here(22, Some(31))),
            ("-22 --ultra", here(22, None)),
            ("-99 --ultra", here(22, None)),
            ("-1 -9", here(9, None)),
            ("-0", here(3, None)),
            ("--fast", Zstd::Program),
            ("--fast=3", Zstd::Program),
            ("--long=9", Zstd::Program),
            ("--long=", Zstd::Program),
            ("-19T0", Zstd::Program),
            ("-", Zstd::Program),
            ("-T", Zstd::Program),
            ("--threads=2", Zstd::Program),
            ("-99999999999", Zstd::Program),
        ] {
            assert_eq!(of(flags), wanted, "{flags}");
        }
        assert_eq!(Zstd::from_command(&["pzstd".to_owned()]), Zstd::Program);
        assert_eq!(Zstd::from_command(&[]), Zstd::Program);
    }

    #[test]
    fn jobs() {
        for (makeopts, jobs) in [
            ("-j4", 4),
            ("-j 12 -l3", 12),
            ("-j2 -j3", 3),
            ("--jobs= 7", 7),
            ("-j2 --jobs= 7 x", 7),
            ("--jobs= 7 -j2", 2),
            ("-k -j8\n-j9", 8),
        ] {
            assert_eq!(job_count(makeopts), jobs, "{makeopts}");
        }
        let processors = std::thread::available_parallelism().unwrap().get();
        for makeopts in ["", "1", "--jobs=4", "--jobs", "-j", "-jx"] {
            assert_eq!(job_count(makeopts), processors, "{makeopts}");
        }
    }
}
