//! The daemon's log: the last records in memory, a file that is rotated, standard error for who watches.
//!
//! Must not know: who writes the lines, how they are drawn in a terminal that asks for them.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::limits::{LOG_FILE_BYTES_MAX, LOG_FILES, LOG_RECORDS, LOG_TEXT_BYTES_MAX};
use crate::log::{LogLevel, LogRecord};

/// One record with its number, which grows by one.
#[derive(Clone, Debug)]
pub struct Entry {
    /// From 1.
    pub number: u64,
    /// What was said.
    pub record: LogRecord,
}

/// Which records someone wants.
#[derive(Clone, Debug, Default)]
pub struct LogFilter {
    /// Of these runtimes or apps; empty: of all, the daemon's too.
    pub sources: Vec<String>,
    /// At least this much.
    pub level: Option<LogLevel>,
    /// Not before, in milliseconds since the epoch.
    pub since_ms: u64,
}

impl LogFilter {
    /// Whether a record is wanted.
    pub fn wants(&self, record: &LogRecord) -> bool {
        (self.sources.is_empty() || self.sources.contains(&record.source))
            && self.level.is_none_or(|level| record.level >= level)
            && record.unix_ms >= self.since_ms
    }
}

/// All that was logged lately.
#[derive(Default)]
pub struct Logs {
    entries: VecDeque<Entry>,
    last_number: u64,
    level: Option<LogLevel>,
    file: Option<LogFile>,
    echo: Option<Echo>,
}

/// Lines for a person at the daemon's terminal.
struct Echo {
    out: Box<dyn Write>,
    colour: bool,
}

impl Logs {
    /// Keeps records of at least `level`.
    pub fn new(level: LogLevel) -> Logs {
        Logs { level: Some(level), ..Logs::default() }
    }

    /// Also writes into a file of this folder.
    ///
    /// # Errors
    /// The file can't be opened.
    pub fn write_to(&mut self, folder: &Path) -> io::Result<()> {
        self.file = Some(LogFile::open(&folder.join("socketley.log"), LOG_FILE_BYTES_MAX)?);
        Ok(())
    }

    /// Also writes lines to `out`.
    pub fn echo_to(&mut self, out: Box<dyn Write>, colour: bool) {
        self.echo = Some(Echo { out, colour });
    }

    /// Adds a record; answers it as it was kept, or nothing if it is below the level.
    pub fn add(&mut self, mut record: LogRecord) -> Option<&Entry> {
        if self.level.is_some_and(|level| record.level < level) {
            return None;
        }
        shorten(&mut record.text, LOG_TEXT_BYTES_MAX);
        let line = line(&record);
        // A full disk or a closed terminal must not stop the daemon, and there is nowhere left to tell it.
        if self.file.as_mut().is_some_and(|file| file.write(&line).is_err()) {
            self.file = None;
        }
        if self.echo.as_mut().is_some_and(|echo| echo.write(&record, &line).is_err()) {
            self.echo = None;
        }
        if self.entries.len() == LOG_RECORDS {
            self.entries.pop_front();
        }
        self.last_number += 1;
        self.entries.push_back(Entry { number: self.last_number, record });
        self.entries.back()
    }

    /// The last `count` records that `filter` wants, oldest first.
    pub fn tail(&self, filter: &LogFilter, count: usize) -> Vec<&Entry> {
        let wanted = self.entries.iter().rev().filter(|entry| filter.wants(&entry.record));
        let mut last: Vec<&Entry> = wanted.take(count).collect();
        last.reverse();
        last
    }
}

impl Entry {
    /// As the verb `logs` answers it.
    pub fn to_json(&self) -> Value {
        json!({
            "number": self.number,
            "time_ms": self.record.unix_ms,
            "level": level_name(self.record.level),
            "source": self.record.source,
            "text": self.record.text,
        })
    }
}

/// `debug`, `info`, `warn` or `error`.
pub fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

/// The reverse of [`level_name`].
pub fn parse_level(name: &str) -> Option<LogLevel> {
    [LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error]
        .into_iter()
        .find(|level| level_name(*level) == name)
}

/// `2026-11-22 11:48:36.123 warn  chat: text`; further lines are indented. Control characters can't reach a terminal.
fn line(record: &LogRecord) -> String {
    let source = if record.source.is_empty() { "socketley" } else { &record.source };
    let text = printable(record.text.trim_end()).replace('\n', "\n    ");
    format!("{} {:<5} {source}: {text}\n", utc(record.unix_ms), level_name(record.level))
}

fn printable(text: &str) -> String {
    let keep = |c: char| if c == '\n' || c == '\t' || !c.is_control() { c } else { '?' };
    text.chars().map(keep).collect()
}

fn shorten(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let cut = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let lost = text.len() - cut;
        text.truncate(cut);
        text.push_str(&format!("... ({lost} bytes more)"));
    }
}

/// Milliseconds since the epoch as a date and time of day in UTC.
///
/// Days to a date: years counted from March, so that the leap day is a year's last; an era of 400 years has 146,097 days.
pub fn utc(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{:03}", unix_ms % 1000)
}

impl Echo {
    fn write(&mut self, record: &LogRecord, line: &str) -> io::Result<()> {
        let colour = match record.level {
            LogLevel::Debug => "\x1b[2m",
            LogLevel::Info => "",
            LogLevel::Warn => "\x1b[33m",
            LogLevel::Error => "\x1b[31m",
        };
        if self.colour && !colour.is_empty() {
            self.out.write_all(format!("{colour}{}\x1b[0m\n", line.trim_end()).as_bytes())
        } else {
            self.out.write_all(line.as_bytes())
        }
    }
}

/// A file that is renamed to `.1`, `.2`, ... when it is full; the oldest is deleted.
struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
}

impl LogFile {
    fn open(path: &Path, bytes_max: u64) -> io::Result<LogFile> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(LogFile { path: path.to_path_buf(), file, bytes, bytes_max })
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        self.file.write_all(line.as_bytes())?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: usize| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..LOG_FILES - 1).rev() {
            if numbered(number).exists() {
                fs::rename(numbered(number), numbered(number + 1))?;
            }
        }
        fs::rename(&self.path, numbered(1))?;
        *self = LogFile::open(&self.path, self.bytes_max)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(unix_ms: u64, level: LogLevel, source: &str, text: &str) -> LogRecord {
        LogRecord { unix_ms, level, source: source.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn times_are_dates() {
        let cases = [
            (0, "1970-01-01 00:00:00.000"),
            (951_782_400_000, "2000-02-29 00:00:00.000"),
            (951_868_799_999, "2000-02-29 23:59:59.999"),
            (1_709_251_200_000, "2024-03-01 00:00:00.000"),
            (4_107_542_399_000, "2100-02-28 23:59:59.000"),
            (4_107_542_400_000, "2100-03-01 00:00:00.000"),
            (1_735_689_599_001, "2024-12-31 23:59:59.001"),
        ];
        for (unix_ms, expected) in cases {
            assert_eq!(utc(unix_ms), expected);
        }
    }

    #[test]
    fn the_last_records_are_kept_and_filtered() {
        let mut logs = Logs::new(LogLevel::Info);
        assert!(logs.add(record(1, LogLevel::Debug, "a", "too quiet")).is_none());
        for number in 0..LOG_RECORDS as u64 + 10 {
            let source = if number % 2 == 0 { "even" } else { "odd" };
            logs.add(record(number, LogLevel::Info, source, "x"));
        }
        logs.add(record(9, LogLevel::Error, "even", "bad"));
        let all = logs.tail(&LogFilter::default(), usize::MAX);
        assert_eq!(all.len(), LOG_RECORDS);
        assert_eq!(all.last().unwrap().number, LOG_RECORDS as u64 + 11);
        let filter = LogFilter { sources: vec!["odd".to_owned()], ..LogFilter::default() };
        let odd: Vec<u64> =
            logs.tail(&filter, 2).iter().map(|entry| entry.record.unix_ms).collect();
        assert_eq!(odd, [LOG_RECORDS as u64 + 7, LOG_RECORDS as u64 + 9]);
        let errors = LogFilter { level: Some(LogLevel::Warn), ..LogFilter::default() };
        assert_eq!(logs.tail(&errors, 5).len(), 1);
        let late = LogFilter { since_ms: LOG_RECORDS as u64 + 9, ..LogFilter::default() };
        assert_eq!(logs.tail(&late, 5).len(), 1);
    }

    #[test]
    fn lines_are_safe_for_terminals_and_long_ones_are_cut() {
        let text = line(&record(0, LogLevel::Warn, "", "a\x1b[31m\r\nb\n"));
        assert_eq!(text, "1970-01-01 00:00:00.000 warn  socketley: a?[31m?\n    b\n");
        let mut logs = Logs::default();
        let long = "ü".repeat(LOG_TEXT_BYTES_MAX);
        let kept = logs.add(record(0, LogLevel::Info, "", &long)).unwrap();
        assert!(kept.record.text.len() < LOG_TEXT_BYTES_MAX + 40);
        assert!(kept.record.text.ends_with("bytes more)"));
    }

    #[test]
    fn full_files_are_rotated_and_their_number_is_bounded() {
        let folder = std::env::temp_dir().join(format!("socketley-logs-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut file = LogFile::open(&folder.join("x.log"), 100).unwrap();
        for number in 0..100 {
            file.write(&format!("line {number:03} {}\n", "x".repeat(30))).unwrap();
        }
        let mut names: Vec<String> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), LOG_FILES, "{names:?}");
        let newest = fs::read_to_string(folder.join("x.log")).unwrap();
        assert!(newest.contains("line 099") && newest.len() <= 100);
        assert!(fs::read_to_string(folder.join("x.log.1")).unwrap().contains("line 097"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
