//! The first line of scripts and libraries: `#!lua name=... flags=...`, and what the flags mean.

/// What a script or function says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptFlags(u8);

impl ScriptFlags {
    /// Calls no command that writes.
    pub const NO_WRITES: ScriptFlags = ScriptFlags(1);
    /// Runs also while memory is short.
    pub const ALLOW_OOM: ScriptFlags = ScriptFlags(2);
    /// Runs also on a stale replica.
    pub const ALLOW_STALE: ScriptFlags = ScriptFlags(4);
    /// Doesn't run in a cluster.
    pub const NO_CLUSTER: ScriptFlags = ScriptFlags(8);
    /// Its keys may be in several slots of a cluster.
    pub const ALLOW_CROSS_SLOT_KEYS: ScriptFlags = ScriptFlags(16);
    /// An EVAL without a first line of its own: whether it writes is seen when it does.
    pub const COMPATIBLE: ScriptFlags = ScriptFlags(32);

    /// Names as FUNCTION LIST shows them.
    pub const NAMES: [(ScriptFlags, &str); 5] = [
        (ScriptFlags::NO_WRITES, "no-writes"),
        (ScriptFlags::ALLOW_OOM, "allow-oom"),
        (ScriptFlags::ALLOW_STALE, "allow-stale"),
        (ScriptFlags::NO_CLUSTER, "no-cluster"),
        (ScriptFlags::ALLOW_CROSS_SLOT_KEYS, "allow-cross-slot-keys"),
    ];

    /// Whether all of `other` is in here.
    pub fn has(self, other: ScriptFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// With the flag called `name`.
    pub fn with(self, name: &[u8]) -> Option<ScriptFlags> {
        let found = ScriptFlags::NAMES.iter().find(|(_, known)| known.as_bytes() == name)?;
        Some(ScriptFlags(self.0 | found.0.0))
    }

    /// The names of those that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        ScriptFlags::NAMES
            .into_iter()
            .filter(move |(flag, _)| self.has(*flag))
            .map(|(_, name)| name)
    }
}

/// The words of a first line that begins with `#!`, and the rest of the text from its line end on.
fn split(text: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    let line = text.strip_prefix(b"#!")?;
    let end = memchr::memchr(b'\n', text)?;
    let line = &line[..end - 2];
    // The engine's name is what stands before the first blank, be it nothing.
    let mut words = line.split(|byte| byte.is_ascii_whitespace());
    let engine = words.next().unwrap_or_default();
    let rest = words.filter(|word| !word.is_empty());
    Some(([engine].into_iter().chain(rest).collect(), &text[end..]))
}

/// A script's flags and its text without the first line (whose line end stays, so that lines count right).
pub(super) fn script(text: &[u8]) -> Result<(ScriptFlags, &[u8]), Vec<u8>> {
    if !text.starts_with(b"#!") {
        return Ok((ScriptFlags::COMPATIBLE, text));
    }
    let Some((words, body)) = split(text) else {
        return Err(b"ERR Invalid script shebang".to_vec());
    };
    let engine = words.first().copied().unwrap_or_default();
    if engine != b"lua" {
        return Err([b"ERR Unexpected engine in script shebang: #!", engine].concat());
    }
    let mut flags = ScriptFlags::default();
    for word in &words[1..] {
        let Some(names) = word.strip_prefix(b"flags=") else {
            return Err([b"ERR Unknown lua shebang option: ", *word].concat());
        };
        for name in names.split(|byte| *byte == b',').filter(|name| !name.is_empty()) {
            flags = flags
                .with(name)
                .ok_or_else(|| [b"ERR Unexpected flag in script shebang: ", name].concat())?;
        }
    }
    Ok((flags, body))
}

/// A library's name and its text without the first line.
pub(super) fn library(text: &[u8]) -> Result<(String, &[u8]), Vec<u8>> {
    if !text.starts_with(b"#!") {
        return Err(b"ERR Missing library metadata".to_vec());
    }
    let Some((words, body)) = split(text) else {
        return Err(b"ERR Invalid library metadata".to_vec());
    };
    let mut name = None;
    for word in words.iter().skip(1) {
        match word.strip_prefix(b"name=") {
            Some(_) if name.is_some() => {
                return Err(
                    b"ERR Invalid metadata value, name argument was given multiple times".to_vec()
                );
            }
            Some([b'"', inner @ .., b'"']) => name = Some(inner),
            Some(value) => name = Some(value),
            None => return Err([b"ERR Invalid metadata value given: ", *word].concat()),
        }
    }
    let name = name.ok_or_else(|| b"ERR Library name was not given".to_vec())?;
    if !is_name(name) {
        return Err(
            b"ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long"
                .to_vec(),
        );
    }
    let engine = words.first().copied().unwrap_or_default();
    if !engine.eq_ignore_ascii_case(b"lua") {
        return Err([b"ERR Engine '", engine, b"' not found"].concat());
    }
    Ok((String::from_utf8_lossy(name).into_owned(), body))
}

/// Whether a library or function may be called so.
pub(super) fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_say_their_flags() {
        for (text, expected) in [
            ("return 1", Ok((ScriptFlags::COMPATIBLE, "return 1"))),
            ("#!lua\nreturn 1", Ok((ScriptFlags::default(), "\nreturn 1"))),
            ("#!lua flags=no-writes\nx", Ok((ScriptFlags::NO_WRITES, "\nx"))),
            ("#!lua flags=no-writes,allow-oom \nx", Ok((ScriptFlags(3), "\nx"))),
            ("#!lua", Err("ERR Invalid script shebang")),
            ("#!lua flags=foo\n", Err("ERR Unexpected flag in script shebang: foo")),
            ("#!lua name=foo\n", Err("ERR Unknown lua shebang option: name=foo")),
            ("#!python\n", Err("ERR Unexpected engine in script shebang: #!python")),
        ] {
            let found = script(text.as_bytes());
            let found =
                found.map(|(flags, body)| (flags, String::from_utf8_lossy(body).into_owned()));
            let found = found.map_err(|error| String::from_utf8_lossy(&error).into_owned());
            let expected =
                expected.map(|(flags, body)| (flags, body.to_owned())).map_err(str::to_owned);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn libraries_have_names() {
        let names = "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one \
                     character long";
        for (text, expected) in [
            ("#!lua name=a\nx", Ok("a")),
            ("#!LUA   name=a_1  \nx", Ok("a_1")),
            ("#!lua name=\"a\"\nx", Ok("a")),
            ("#! name=a\nx", Err("ERR Engine '' not found")),
            ("x", Err("ERR Missing library metadata")),
            ("#!lua name=a", Err("ERR Invalid library metadata")),
            ("#!lua\nx", Err("ERR Library name was not given")),
            ("#!lua name=a-b\nx", Err(names)),
            ("#!lua name=\nx", Err(names)),
            ("#!foo name=a\nx", Err("ERR Engine 'foo' not found")),
            ("#!lua name=a foo=1\nx", Err("ERR Invalid metadata value given: foo=1")),
        ] {
            let found = library(text.as_bytes()).map(|(name, _)| name);
            let found = found.map_err(|error| String::from_utf8_lossy(&error).into_owned());
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }
}
