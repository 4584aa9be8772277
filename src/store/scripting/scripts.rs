//! EVAL's cache: scripts by the SHA1 of their text. Those that came by EVAL alone are forgotten, the least recently run
//! first, when there are too many; SCRIPT LOAD's stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;

use super::{Counter, Engine, Handle, ScriptFlags, shebang};
use crate::limits::{SCRIPT_TEXT_KEPT_BYTES_MAX, SCRIPTS_EVALED_MAX};

/// The SHA1 of a script's text.
pub type Sha = [u8; 20];

/// One script.
#[derive(Clone, Debug)]
pub struct Script {
    /// Of its text.
    pub sha: Sha,
    /// The same in digits.
    pub name: Arc<str>,
    /// To run it.
    pub handle: Handle,
    /// What its first line says.
    pub flags: ScriptFlags,
    /// Its runs.
    pub counter: Counter,
    /// Stays until SCRIPT FLUSH.
    pinned: bool,
    /// The tick of its last run.
    used: u64,
    text_bytes: usize,
}

/// All scripts of a store.
#[derive(Debug, Default)]
pub struct Scripts {
    rows: Vec<Option<Script>>,
    free: Vec<u32>,
    by_sha: BTreeMap<Sha, u32>,
    /// Those that aren't pinned.
    evaled: usize,
    tick: u64,
    text_bytes: usize,
    /// What EVALSHA asked for last, as it asked.
    last: Option<([u8; 40], u32)>,
    /// What EVAL brought last.
    last_text: Option<(Box<[u8]>, u32)>,
    /// Scripts forgotten because there were too many.
    pub evicted: u64,
}

/// SHA1 of some bytes.
pub fn sha1(bytes: &[u8]) -> Sha {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
    digest.as_ref().try_into().expect("SHA1 has 20 bytes")
}

/// Its 40 digits.
pub fn hex(sha: &Sha) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    sha.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The SHA1 that 40 digits of any case spell.
fn parse(text: &[u8]) -> Option<Sha> {
    let digits: &[u8; 40] = text.try_into().ok()?;
    let mut sha = Sha::default();
    for (byte, pair) in sha.iter_mut().zip(digits.chunks(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16);
        *byte = (value(pair[0])? << 4 | value(pair[1])?) as u8;
    }
    Some(sha)
}

impl Scripts {
    /// The place of the script that EVALSHA's argument names.
    pub fn find_hex(&mut self, text: &[u8]) -> Option<u32> {
        if let Some((last, index)) = &self.last
            && last == text
        {
            return Some(*index);
        }
        let index = *self.by_sha.get(&parse(text)?)?;
        self.last = text.try_into().ok().map(|text| (text, index));
        Some(index)
    }

    /// The place of the script with this text. The last one is told by its bytes, which is cheaper than their SHA1.
    pub fn find_text(&mut self, text: &[u8]) -> Result<u32, Sha> {
        if let Some((last, index)) = &self.last_text
            && **last == *text
        {
            return Ok(*index);
        }
        let sha = sha1(text);
        let index = self.find(&sha).ok_or(sha)?;
        if text.len() <= SCRIPT_TEXT_KEPT_BYTES_MAX {
            self.last_text = Some((text.into(), index));
        }
        Ok(index)
    }

    /// The place of a script.
    pub fn find(&self, sha: &Sha) -> Option<u32> {
        self.by_sha.get(sha).copied()
    }

    /// The flags of the script with that name.
    pub fn flags_of(&self, text: &[u8]) -> Option<ScriptFlags> {
        let index = *self.by_sha.get(&parse(text)?)?;
        self.rows.get(index as usize)?.as_ref().map(|script| script.flags)
    }

    /// A script by its place, about to run.
    pub fn use_at(&mut self, index: u32) -> Option<&Script> {
        self.tick += 1;
        let script = self.rows.get_mut(index as usize)?.as_mut()?;
        script.used = self.tick;
        Some(script)
    }

    /// Compiles and adds a script that isn't there.
    ///
    /// # Errors
    /// Its text is wrong.
    pub fn add(
        &mut self,
        engine: &mut dyn Engine,
        text: &[u8],
        sha: Sha,
        pinned: bool,
    ) -> Result<u32, Vec<u8>> {
        let (flags, body) = shebang::script(text)?;
        let handle = engine.compile(body).map_err(|message| {
            [b"ERR Error compiling script (new function): ", message.as_slice()].concat()
        })?;
        if !pinned && self.evaled >= SCRIPTS_EVALED_MAX {
            self.evict(engine);
        }
        self.tick += 1;
        let counter = Counter::default();
        let (used, text_bytes) = (self.tick, text.len());
        let name = Arc::from(hex(&sha));
        let script = Script { sha, name, handle, flags, counter, pinned, used, text_bytes };
        self.evaled += usize::from(!pinned);
        self.text_bytes += text_bytes;
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.rows.push(None);
                self.rows.len() as u32 - 1
            }
        };
        self.rows[index as usize] = Some(script);
        self.by_sha.insert(sha, index);
        Ok(index)
    }

    /// SCRIPT LOAD of a script that is there: it stays from now on.
    pub fn pin(&mut self, index: u32) {
        if let Some(Some(script)) = self.rows.get_mut(index as usize)
            && !std::mem::replace(&mut script.pinned, true)
        {
            self.evaled -= 1;
        }
    }

    fn evict(&mut self, engine: &mut dyn Engine) {
        let oldest = self.rows.iter().flatten().filter(|script| !script.pinned);
        let Some(sha) = oldest.min_by_key(|script| script.used).map(|script| script.sha) else {
            return;
        };
        let Some(index) = self.by_sha.remove(&sha) else { return };
        if let Some(script) = self.rows[index as usize].take() {
            engine.release(script.handle);
            self.text_bytes -= script.text_bytes;
            self.evaled -= 1;
            self.evicted += 1;
        }
        self.free.push(index);
        (self.last, self.last_text) = (None, None);
    }

    /// SCRIPT FLUSH: all are forgotten; their handles are to be released.
    pub fn flush(&mut self) -> Vec<Handle> {
        let evicted = self.evicted;
        let old = std::mem::take(self);
        self.evicted = evicted;
        old.rows.into_iter().flatten().map(|script| script.handle).collect()
    }

    /// The scripts, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Script> {
        self.rows.iter().flatten()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_sha.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_sha.is_empty()
    }

    /// Bytes of all texts.
    pub fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    pub(super) fn counter(&mut self, index: u32) -> Option<&mut Counter> {
        self.rows.get_mut(index as usize)?.as_mut().map(|script| &mut script.counter)
    }
}

#[cfg(test)]
mod tests {
    use super::super::commands::CommandFile;
    use super::super::{Registered, Start, Step, World};
    use super::*;
    use crate::store::Reply;

    /// Counts what it has compiled and not released.
    #[derive(Default)]
    struct Counting {
        next: Handle,
        alive: usize,
    }

    impl Engine for Counting {
        fn compile(&mut self, _: &[u8]) -> Result<Handle, Vec<u8>> {
            self.next += 1;
            self.alive += 1;
            Ok(self.next)
        }

        fn load_library(&mut self, _: &[u8]) -> Result<Vec<Registered>, Vec<u8>> {
            Ok(Vec::new())
        }

        fn load_commands(&mut self, _: &CommandFile) -> Result<Vec<(String, Handle)>, String> {
            Ok(Vec::new())
        }

        fn release(&mut self, _: Handle) {
            self.alive -= 1;
        }

        fn start(&mut self, _: &mut World<'_>, _: &Start<'_>, _: &mut Reply<'_>) -> Step {
            Step::Done
        }

        fn resume(&mut self, _: &mut World<'_>, _: &mut Reply<'_>) -> Step {
            Step::Done
        }

        fn memory_bytes(&self) -> usize {
            0
        }
    }

    #[test]
    fn shas_are_read_in_any_case() {
        let sha = sha1(b"return 1");
        assert_eq!(hex(&sha), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!(parse(hex(&sha).to_uppercase().as_bytes()), Some(sha));
        assert_eq!(parse(b"e0e1"), None);
        assert_eq!(parse("z".repeat(40).as_bytes()), None);
    }

    #[test]
    fn evaled_scripts_are_bounded_and_loaded_ones_stay() {
        let mut engine = Counting::default();
        let mut scripts = Scripts::default();
        let text = |number: usize| format!("return {number}").into_bytes();
        let add = |scripts: &mut Scripts, engine: &mut Counting, number, pinned| {
            scripts.add(engine, &text(number), sha1(&text(number)), pinned).unwrap()
        };
        let loaded = add(&mut scripts, &mut engine, 0, true);
        let first = add(&mut scripts, &mut engine, 1, false);
        let second = add(&mut scripts, &mut engine, 2, false);
        for number in 3..=SCRIPTS_EVALED_MAX {
            add(&mut scripts, &mut engine, number, false);
        }
        assert!(scripts.use_at(first).is_some());
        add(&mut scripts, &mut engine, 10_000, false);
        assert_eq!((scripts.evicted, scripts.len()), (1, SCRIPTS_EVALED_MAX + 1));
        assert_eq!(scripts.find(&sha1(&text(2))), None);
        assert!(scripts.find(&sha1(&text(1))).is_some() && scripts.use_at(loaded).is_some());
        assert_eq!(engine.alive, scripts.len());
        let again = add(&mut scripts, &mut engine, 2, true);
        assert_eq!(again, scripts.find_hex(hex(&sha1(&text(2))).as_bytes()).unwrap());
        assert_ne!(again, second + 10_000);
        assert_eq!(scripts.flush().len(), engine.alive);
        assert!(scripts.is_empty() && scripts.text_bytes() == 0);
    }
}
