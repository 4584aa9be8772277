//! One user: a name, passwords, and what may be done.

use super::Denied;
use super::selector::{Refusal, Selector};
use crate::store::Args;
use crate::store::commands::{Command, CommandId, Flags};

const HASH_SHAPE: Refusal = "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters";
const NO_SUCH_PASSWORD: Refusal =
    "The password you are trying to remove from the user does not exist";

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Unique; without spaces.
    pub name: Vec<u8>,
    /// May connect.
    pub enabled: bool,
    /// Any password is right.
    pub without_password: bool,
    /// RESTORE's payloads are checked; they always are here, the flag is only remembered.
    checks_payloads: bool,
    /// SHA-256 in hexadecimal.
    pub passwords: Vec<String>,
    /// What may be done; the first is the user's own.
    pub selectors: Vec<Selector>,
}

impl User {
    /// One that may do nothing.
    pub fn new(name: &[u8], all_channels: bool) -> User {
        User {
            name: name.to_vec(),
            enabled: false,
            without_password: false,
            checks_payloads: true,
            passwords: Vec::new(),
            selectors: vec![Selector::new(all_channels)],
        }
    }

    /// `default`, who may do everything.
    pub fn unrestricted() -> User {
        User {
            enabled: true,
            without_password: true,
            selectors: vec![Selector::everything()],
            ..User::new(b"default", true)
        }
    }

    /// Whether nothing is forbidden.
    pub fn is_unrestricted(&self) -> bool {
        self.selectors[0].is_everything()
    }

    /// Applies one modifier of SETUSER.
    pub fn modify(&mut self, modifier: &[u8], all_channels: bool) -> Result<(), Refusal> {
        match modifier.to_ascii_lowercase().as_slice() {
            b"" => {}
            b"on" => self.enabled = true,
            b"off" => self.enabled = false,
            b"nopass" => (self.without_password, self.passwords) = (true, Vec::new()),
            b"resetpass" => (self.without_password, self.passwords) = (false, Vec::new()),
            b"skip-sanitize-payload" => self.checks_payloads = false,
            b"sanitize-payload" => self.checks_payloads = true,
            b"clearselectors" => self.selectors.truncate(1),
            b"reset" => *self = User::new(&self.name, all_channels),
            [b'>', ..] => self.add_password(hash(&modifier[1..])),
            [b'<', ..] => self.remove_password(&hash(&modifier[1..]))?,
            [b'#', ..] => self.add_password(hash_text(&modifier[1..])?),
            [b'!', ..] => self.remove_password(&hash_text(&modifier[1..])?)?,
            [b'(', .., b')'] => {
                let mut selector = Selector::new(all_channels);
                let inner = &modifier[1..modifier.len() - 1];
                let words = inner.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
                words.into_iter().try_for_each(|word| selector.modify(word))?;
                self.selectors.push(selector);
            }
            _ => self.selectors[0].modify(modifier)?,
        }
        Ok(())
    }

    fn add_password(&mut self, hash: String) {
        self.without_password = false;
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
    }

    fn remove_password(&mut self, hash: &str) -> Result<(), Refusal> {
        let at = self.passwords.iter().position(|known| known == hash).ok_or(NO_SUCH_PASSWORD)?;
        self.passwords.remove(at);
        Ok(())
    }

    /// Whether that is one of the passwords.
    pub fn accepts(&self, password: &[u8]) -> bool {
        let hash = hash(password);
        let known = self.passwords.iter().fold(false, |known, one| known | same_text(one, &hash));
        self.enabled && (self.without_password || known)
    }

    /// Whether a command may be run so. Of several reasons against it the one that got furthest is told.
    pub fn check(&self, id: CommandId, row: &Command, args: Args<'_>) -> Result<(), Denied> {
        let mut worst = Denied::Command;
        for selector in &self.selectors {
            match selector.check(id, row, args) {
                Ok(()) => return Ok(()),
                Err(denied) => worst = worst.further(denied),
            }
        }
        Err(worst)
    }

    /// Whether a selector lets a command run and read keys that its arguments don't name (SORT's patterns).
    pub fn reads_all_keys(&self, id: CommandId, row: &Command, args: Args<'_>) -> bool {
        let fits = |one: &Selector| one.reads_all_keys() && one.check(id, row, args).is_ok();
        self.selectors.iter().any(fits)
    }

    /// What stands against a command in a session of this user, if anything does.
    pub fn denies(&self, id: CommandId, row: &Command, args: Args<'_>) -> Option<Denied> {
        let free = row.flags.has(Flags::NO_AUTH);
        self.check(id, row, args).err().filter(|_| !free)
    }

    /// Whether one of the selectors allows a channel or pattern.
    pub fn allows_channel(&self, channel: &[u8], literal: bool) -> bool {
        self.selectors.iter().any(|selector| selector.allows_channel(channel, literal))
    }

    /// The flags of GETUSER.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.enabled { "on" } else { "off" }];
        if self.without_password {
            flags.push("nopass");
        }
        flags.push(if self.checks_payloads { "sanitize-payload" } else { "skip-sanitize-payload" });
        flags
    }

    /// The line of ACL LIST.
    pub fn text(&self) -> Vec<u8> {
        let mut words = vec![b"user".to_vec(), self.name.clone()];
        words.extend(self.flags().into_iter().map(|flag| flag.as_bytes().to_vec()));
        words.extend(self.passwords.iter().map(|hash| format!("#{hash}").into_bytes()));
        words.push(self.selectors[0].text());
        let others = self.selectors[1..].iter();
        words.extend(others.map(|selector| [b"(", &selector.text()[..], b")"].concat()));
        words.join(&b' ')
    }
}

/// SHA-256 in hexadecimal.
fn hash(password: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, password);
    super::hexadecimal(digest.as_ref())
}

fn hash_text(text: &[u8]) -> Result<String, Refusal> {
    let hexadecimal = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 64 || !text.iter().all(hexadecimal) {
        return Err(HASH_SHAPE);
    }
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// Compares in a time that doesn't tell how many characters were right.
fn same_text(left: &str, right: &str) -> bool {
    let pairs = left.bytes().zip(right.bytes());
    left.len() == right.len() && pairs.fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}
