//! Folders of files over HTTP: types, conditions, ranges, compression, and a bounded cache of what is asked for often.
//!
//! A file below [`limits::HTTP_FILE_CACHED_BYTES_MAX`] is kept and looked at again after a second; a larger one is read
//! piece by piece as the client takes it. Names that begin with a dot aren't served (but `.well-known`), and no path or
//! link leads out of the folder.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::limits;
use crate::proto::http1::{
    EtagMatch, Field, Ranges, Request, accepts_gzip, decode_path, match_etag, parse_date,
    parse_ranges, parse_request, write_date,
};
use crate::ring::folder::Folder;
use crate::runtime::local::Local;

use super::intake::path_of;
use super::{mime, respond};

/// A served folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticFiles {
    /// Where it is.
    pub folder: PathBuf,
    /// The path it is served at; begins and ends with a slash.
    pub prefix: String,
    /// The file that stands for a folder.
    pub index: String,
    /// How long clients may keep a file without asking, in seconds.
    pub max_age: Option<u64>,
    /// Whether text is compressed.
    pub gzip: bool,
}

/// A worker's folders and the files it keeps.
#[derive(Debug, Default)]
pub(super) struct Files {
    folders: Vec<(PathBuf, Folder)>,
    kept: BTreeMap<(usize, Vec<u8>), Kept>,
    kept_bytes: usize,
    path: Vec<u8>,
}

/// A file in memory.
#[derive(Clone, Debug)]
struct Kept {
    stamp: Stamp,
    bytes: Arc<[u8]>,
    /// Compressed, if that was tried; nothing in it if it didn't help.
    gzip: Option<Option<Arc<[u8]>>>,
    checked_ms: u64,
    used_ms: u64,
}

/// What a file's version is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified_s: i64,
    modified_ns: i64,
    length: u64,
}

impl Stamp {
    fn of(meta: &Metadata) -> Stamp {
        Stamp { modified_s: meta.mtime(), modified_ns: meta.mtime_nsec(), length: meta.len() }
    }

    fn etag(self, variant: &str) -> String {
        format!("\"{:x}-{:x}-{:x}{variant}\"", self.modified_s, self.modified_ns, self.length)
    }
}

/// What a path names.
enum Named {
    File(Source, Stamp),
    /// A folder whose name came without its slash.
    Folder,
    Nothing,
}

/// Where a file's bytes are.
#[derive(Debug)]
pub(super) enum Source {
    /// Here.
    Memory(Arc<[u8]>),
    /// In the file.
    Disk(File),
}

/// What is sent of it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) source: Source,
    pub(super) start: u64,
    pub(super) length: u64,
}

/// Opens a folder that is to be served, for the check of a definition.
///
/// # Errors
/// Why it can't be served.
pub fn check(folder: &Path) -> Result<(), String> {
    Folder::open(folder).map(drop).map_err(|error| format!("{}: {error}", folder.display()))
}

/// Answers a GET or HEAD from the runtime's folder. False if there is nothing under that path.
pub(super) fn serve(
    local: &mut Local,
    slot: u32,
    number: u32,
    head: &[u8],
    request: &Request,
) -> bool {
    let index = local.connections.at(slot).instance;
    let config = local.instance_at(index).config_arc();
    let Some(files) = &config.http.files else { return false };
    let target = request.path_and_query.of(head);
    let now_ms = local.now.monotonic_ms();
    let mut path = std::mem::take(&mut local.http.files.path);
    let relative = path_of(target).strip_prefix(files.prefix.as_bytes());
    let is_path = relative.is_some_and(|rest| {
        let whole = [b"/", rest].concat();
        decode_path(&whole, &mut path).is_ok() && !is_hidden(&path)
    });
    if is_path && (path.is_empty() || path.ends_with(b"/")) {
        path.extend_from_slice(files.index.as_bytes());
    }
    let is_prefix = files.prefix.as_bytes().strip_suffix(b"/") == Some(path_of(target));
    let named = if is_path {
        local.http.files.find(&files.folder, &path, now_ms)
    } else if is_prefix {
        Named::Folder
    } else {
        Named::Nothing
    };
    let found = match named {
        Named::Nothing => false,
        Named::Folder => {
            redirect(local, slot, number, target);
            true
        }
        Named::File(source, stamp) => {
            let mut fields = std::mem::take(&mut local.http.fields);
            let start = request.method.start as usize;
            let read = parse_request(head, start, &mut fields).is_ok();
            let asked = if read { Asked::of(head, &fields) } else { Asked::default() };
            let file = Wanted { files, path: &path, source, stamp };
            answer(local, slot, number, file, &asked, now_ms);
            local.http.fields = fields;
            true
        }
    };
    local.http.files.path = path;
    found
}

fn is_hidden(path: &[u8]) -> bool {
    let hidden = |part: &[u8]| part.starts_with(b".") && part != b".well-known";
    path.split(|byte| *byte == b'/').any(hidden)
}

fn redirect(local: &mut Local, slot: u32, number: u32, target: &[u8]) {
    let path = path_of(target);
    let query = target.get(path.len()..).unwrap_or_default();
    let parts: [&[u8]; 5] = [b"Location: ", path, b"/", query, b"\r\n"];
    // A path of several slashes would be another host.
    let fields = parts.concat();
    let is_plain = !path.starts_with(b"//");
    let status = if is_plain { 301 } else { 404 };
    let fields = if is_plain { &fields[..] } else { b"" };
    respond::whole(local, slot, number, &respond::Reply { status, fields, body: b"" });
}

/// What a request says of the version and part that it wants.
#[derive(Default)]
struct Asked<'a> {
    if_match: Option<&'a [u8]>,
    if_none_match: Option<&'a [u8]>,
    if_modified_since: Option<u64>,
    if_unmodified_since: Option<u64>,
    range: Option<&'a [u8]>,
    if_range: Option<&'a [u8]>,
    takes_gzip: bool,
}

impl<'a> Asked<'a> {
    fn of(head: &'a [u8], fields: &[Field]) -> Asked<'a> {
        let mut asked = Asked::default();
        for field in fields {
            let value = field.value.of(head);
            match field.name.of(head).to_ascii_lowercase().as_slice() {
                b"if-match" => asked.if_match = Some(value),
                b"if-none-match" => asked.if_none_match = Some(value),
                b"if-modified-since" => asked.if_modified_since = parse_date(value),
                b"if-unmodified-since" => asked.if_unmodified_since = parse_date(value),
                b"range" => asked.range = Some(value),
                b"if-range" => asked.if_range = Some(value),
                b"accept-encoding" => asked.takes_gzip = accepts_gzip(value),
                _ => {}
            }
        }
        asked
    }

    /// RFC 9110 section 13.2.2: the status that the conditions lead to, if it isn't the file.
    fn status(&self, etag: &[u8], modified_s: u64) -> Option<u16> {
        if let Some(tags) = self.if_match {
            if match_etag(tags, etag) != EtagMatch::Strong {
                return Some(412);
            }
        } else if self.if_unmodified_since.is_some_and(|since| modified_s > since) {
            return Some(412);
        }
        if let Some(tags) = self.if_none_match {
            return (match_etag(tags, etag) != EtagMatch::None).then_some(304);
        }
        self.if_modified_since.is_some_and(|since| modified_s <= since).then_some(304)
    }

    fn range(&self, etag: &[u8], modified_s: u64, length: u64) -> Ranges {
        let Some(range) = self.range else { return Ranges::Whole };
        let is_same = self
            .if_range
            .is_none_or(|condition| condition == etag || parse_date(condition) == Some(modified_s));
        if is_same { parse_ranges(range, length) } else { Ranges::Whole }
    }
}

/// A file that is to be sent.
struct Wanted<'a> {
    files: &'a StaticFiles,
    path: &'a [u8],
    source: Source,
    stamp: Stamp,
}

fn answer(
    local: &mut Local,
    slot: u32,
    number: u32,
    file: Wanted<'_>,
    asked: &Asked<'_>,
    now_ms: u64,
) {
    let Wanted { files, path, mut source, stamp } = file;
    let (kind, is_text) = mime::of(path);
    let mut encoding = "";
    let mut length = stamp.length;
    if files.gzip && is_text && asked.takes_gzip && asked.range.is_none() {
        let compressed = local.http.files.compressed(&files.folder, path, stamp, now_ms);
        if let Some((bytes, compressed_length)) = compressed {
            (source, length, encoding) = (bytes, compressed_length, "gzip");
        }
    }
    let etag = stamp.etag(if encoding.is_empty() { "" } else { "-gz" });
    let modified_s = u64::try_from(stamp.modified_s).unwrap_or(0);
    let mut fields = format!("ETag: {etag}\r\nLast-Modified: ").into_bytes();
    write_date(modified_s, &mut fields);
    fields.extend_from_slice(b"\r\n");
    if files.gzip && is_text {
        fields.extend_from_slice(b"Vary: Accept-Encoding\r\n");
    }
    if let Some(max_age) = files.max_age {
        fields.extend_from_slice(format!("Cache-Control: max-age={max_age}\r\n").as_bytes());
    }
    if let Some(status) = asked.status(etag.as_bytes(), modified_s) {
        let reply = respond::Reply { status, fields: &fields, body: b"" };
        return respond::whole(local, slot, number, &reply);
    }
    let (status, start, count) = match asked.range(etag.as_bytes(), modified_s, length) {
        Ranges::Whole => (200, 0, length),
        Ranges::One(range) => {
            let line = format!("Content-Range: bytes {}-{}/{length}\r\n", range.first, range.last);
            fields.extend_from_slice(line.as_bytes());
            (206, range.first, range.last - range.first + 1)
        }
        Ranges::Unsatisfiable => {
            fields.extend_from_slice(format!("Content-Range: bytes */{length}\r\n").as_bytes());
            let reply = respond::Reply { status: 416, fields: &fields, body: b"" };
            return respond::whole(local, slot, number, &reply);
        }
    };
    fields
        .extend_from_slice(format!("Content-Type: {kind}\r\nAccept-Ranges: bytes\r\n").as_bytes());
    if !encoding.is_empty() {
        fields.extend_from_slice(b"Content-Encoding: gzip\r\n");
    }
    respond::part(local, slot, number, (status, &fields), Part { source, start, length: count });
}

impl Files {
    fn folder(&mut self, path: &Path) -> Option<usize> {
        if let Some(known) = self.folders.iter().position(|(known, _)| known == path) {
            return Some(known);
        }
        let folder = Folder::open(path).ok()?;
        self.folders.push((path.to_path_buf(), folder));
        Some(self.folders.len() - 1)
    }

    fn find(&mut self, folder: &Path, path: &[u8], now_ms: u64) -> Named {
        let Some(folder) = self.folder(folder) else { return Named::Nothing };
        let key = (folder, path.to_vec());
        if let Some(kept) = self.kept.get_mut(&key)
            && now_ms < kept.checked_ms + limits::HTTP_FILE_CHECK_MS
        {
            kept.used_ms = now_ms;
            return Named::File(Source::Memory(Arc::clone(&kept.bytes)), kept.stamp);
        }
        let Ok((file, meta)) = self.open(folder, path) else {
            self.forget(&key);
            return Named::Nothing;
        };
        if meta.is_dir() {
            return Named::Folder;
        }
        if !meta.is_file() {
            return Named::Nothing;
        }
        let stamp = Stamp::of(&meta);
        if let Some(kept) = self.kept.get_mut(&key).filter(|kept| kept.stamp == stamp) {
            (kept.checked_ms, kept.used_ms) = (now_ms, now_ms);
            return Named::File(Source::Memory(Arc::clone(&kept.bytes)), stamp);
        }
        self.forget(&key);
        if stamp.length > limits::HTTP_FILE_CACHED_BYTES_MAX as u64 {
            return Named::File(Source::Disk(file), stamp);
        }
        let Some(bytes) = read_whole(&file, stamp.length as usize) else { return Named::Nothing };
        self.keep(key, stamp, &bytes, now_ms);
        Named::File(Source::Memory(bytes), stamp)
    }

    fn open(&self, folder: usize, path: &[u8]) -> std::io::Result<(File, Metadata)> {
        let file = self.folders[folder].1.open_below(path)?;
        let meta = file.metadata()?;
        Ok((file, meta))
    }

    fn keep(&mut self, key: (usize, Vec<u8>), stamp: Stamp, bytes: &Arc<[u8]>, now_ms: u64) {
        let kept = Kept {
            stamp,
            bytes: Arc::clone(bytes),
            gzip: None,
            checked_ms: now_ms,
            used_ms: now_ms,
        };
        self.kept_bytes += kept.cost();
        self.kept.insert(key, kept);
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.kept_bytes > limits::HTTP_FILES_CACHED_BYTES_MAX {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used_ms);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else { break };
            self.forget(&key);
        }
    }

    fn forget(&mut self, key: &(usize, Vec<u8>)) {
        if let Some(kept) = self.kept.remove(key) {
            self.kept_bytes -= kept.cost();
        }
    }

    /// The compressed form of a file: one beside it (`style.css.gz`), or what was made of a small one.
    fn compressed(
        &mut self,
        folder: &Path,
        path: &[u8],
        stamp: Stamp,
        now_ms: u64,
    ) -> Option<(Source, u64)> {
        let beside = [path, b".gz"].concat();
        if let Named::File(source, own) = self.find(folder, &beside, now_ms)
            && (own.modified_s, own.modified_ns) >= (stamp.modified_s, stamp.modified_ns)
        {
            return Some((source, own.length));
        }
        let folder = self.folder(folder)?;
        let kept = self.kept.get_mut(&(folder, path.to_vec()))?;
        if kept.gzip.is_none() {
            let before = kept.cost();
            kept.gzip = Some(compress(&kept.bytes));
            self.kept_bytes += kept.cost() - before;
        }
        let made = kept.gzip.clone().flatten();
        self.make_room();
        made.map(|bytes| (Source::Memory(Arc::clone(&bytes)), bytes.len() as u64))
    }
}

impl Kept {
    fn cost(&self) -> usize {
        let gzip = self.gzip.as_ref().and_then(Option::as_ref).map_or(0, |bytes| bytes.len());
        self.bytes.len() + gzip + limits::HTTP_FILE_COST_BYTES
    }
}

fn read_whole(file: &File, length: usize) -> Option<Arc<[u8]>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).ok()?;
    Some(bytes.into())
}

/// Compresses what is worth it.
fn compress(bytes: &[u8]) -> Option<Arc<[u8]>> {
    if bytes.len() < limits::HTTP_GZIP_BYTES_MIN {
        return None;
    }
    let out = Vec::with_capacity(bytes.len() / 2);
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(5));
    encoder.write_all(bytes).ok()?;
    let out = encoder.finish().ok()?;
    (out.len() < bytes.len()).then(|| out.into())
}

impl Part {
    /// Whether all of it is in memory.
    pub(super) fn in_memory(&self) -> Option<&[u8]> {
        match &self.source {
            Source::Memory(bytes) => {
                Some(&bytes[self.start as usize..(self.start + self.length) as usize])
            }
            Source::Disk(_) => None,
        }
    }

    /// The next piece of a file, at most so many bytes; nothing if the file has become shorter or can't be read.
    pub(super) fn read(&mut self, count: usize) -> Option<Vec<u8>> {
        let Source::Disk(file) = &self.source else { return None };
        let count = self.length.min(count as u64);
        let mut bytes = vec![0; count as usize];
        file.read_exact_at(&mut bytes, self.start).ok()?;
        self.start += count;
        self.length -= count;
        Some(bytes)
    }
}
