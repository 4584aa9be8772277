//! One set of rights: which commands, which keys for reading and writing, which channels. A user has one, and may have
//! more in brackets, each of which is enough by itself.

use super::Denied;
use crate::store::commands::introspection::categories;
use crate::store::commands::key_use::key_uses;
use crate::store::commands::{Command, CommandId, table};
use crate::store::{Args, glob};

/// Why a modifier is refused, after `Error in ACL SETUSER modifier '...': `.
pub type Refusal = &'static str;

const UNKNOWN: Refusal = "Unknown command or category name in ACL";
const SYNTAX: Refusal = "Syntax error";
const AFTER_ALL_KEYS: Refusal = "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not \
    have any effect. Try 'resetkeys' to start with an empty list of patterns";
const AFTER_ALL_CHANNELS: Refusal = "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and \
    does not have any effect. Try 'resetchannels' to start with an empty list of channels";
const NO_CATEGORY_ARGUMENT: Refusal = "Allowing first-arg of a subcommand is not supported";

/// Rights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// By the command's index.
    allowed: Vec<bool>,
    /// The last of `+@all` and `-@all`.
    all_base: bool,
    /// What followed it.
    rules: Vec<String>,
    /// `+command|argument` of commands that have no subcommands.
    first_arguments: Vec<(CommandId, Vec<u8>)>,
    keys: Vec<KeyPattern>,
    all_keys: bool,
    channels: Vec<Vec<u8>>,
    all_channels: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyPattern {
    glob: Vec<u8>,
    read: bool,
    write: bool,
}

impl Selector {
    /// Nothing is allowed, but for the channels if so configured.
    pub fn new(all_channels: bool) -> Selector {
        Selector { allowed: vec![false; table().len()], all_channels, ..Selector::default() }
    }

    /// Everything is allowed.
    pub fn everything() -> Selector {
        Selector {
            allowed: vec![true; table().len()],
            all_base: true,
            all_keys: true,
            all_channels: true,
            ..Selector::default()
        }
    }

    /// Whether nothing is forbidden.
    pub fn is_everything(&self) -> bool {
        self.all_base && self.rules.is_empty() && self.all_keys && self.all_channels
    }

    /// Applies one modifier.
    pub fn modify(&mut self, modifier: &[u8]) -> Result<(), Refusal> {
        let lower = modifier.to_ascii_lowercase();
        match lower.as_slice() {
            b"allcommands" | b"+@all" => self.set_all(true),
            b"nocommands" | b"-@all" => self.set_all(false),
            b"allkeys" => self.set_all_keys(),
            b"resetkeys" => (self.all_keys, self.keys) = (false, Vec::new()),
            b"allchannels" => self.set_all_channels(),
            b"resetchannels" => (self.all_channels, self.channels) = (false, Vec::new()),
            [b'+' | b'-', b'@', category @ ..] => self.set_category(category, lower[0] == b'+')?,
            [b'+', name @ ..] => self.allow(name)?,
            [b'-', name @ ..] => self.forbid(name)?,
            [b'~', ..] => self.add_keys(&modifier[1..], true, true)?,
            [b'%', ..] => self.add_keys_for(&modifier[1..])?,
            [b'&', ..] => self.add_channels(&modifier[1..])?,
            _ => return Err(SYNTAX),
        }
        Ok(())
    }

    fn set_all(&mut self, on: bool) {
        self.allowed.fill(on);
        self.all_base = on;
        self.rules.clear();
        self.first_arguments.clear();
    }

    fn set_category(&mut self, category: &[u8], on: bool) -> Result<(), Refusal> {
        let known = |name: &&&str| name.as_bytes()[1..] == *category;
        let name = super::CATEGORIES.iter().find(known).ok_or(UNKNOWN)?;
        for id in table().ids() {
            if categories(id).contains(name) {
                self.set_one(id, on);
            }
        }
        self.note(name, on);
        Ok(())
    }

    /// Sets a command and forgets what was allowed of it by its argument.
    fn set_one(&mut self, id: CommandId, on: bool) {
        self.allowed[id.index()] = on;
        self.first_arguments.retain(|(command, _)| *command != id);
    }

    fn set_command(&mut self, id: CommandId, on: bool) {
        self.set_one(id, on);
        for child in table().row(id).subcommands {
            if let Some(child) = table().subcommand(id, child.name.as_bytes()) {
                self.set_one(child, on);
            }
        }
        self.note(&table().full_name(id), on);
    }

    fn allow(&mut self, name: &[u8]) -> Result<(), Refusal> {
        if let Some(id) = find(name) {
            self.set_command(id, true);
            return Ok(());
        }
        let bar = memchr::memchr(b'|', name).ok_or(UNKNOWN)?;
        let (command, argument) = (&name[..bar], &name[bar + 1..]);
        let id = table().lookup(command).ok_or(UNKNOWN)?;
        if !table().row(id).subcommands.is_empty() || argument.is_empty() {
            return Err(UNKNOWN);
        }
        if argument.contains(&b'|') {
            return Err(NO_CATEGORY_ARGUMENT);
        }
        self.first_arguments.push((id, argument.to_vec()));
        self.note(&String::from_utf8_lossy(name), true);
        Ok(())
    }

    fn forbid(&mut self, name: &[u8]) -> Result<(), Refusal> {
        self.set_command(find(name).ok_or(UNKNOWN)?, false);
        Ok(())
    }

    /// Remembers a rule for ACL LIST; it replaces earlier ones about the same.
    fn note(&mut self, name: &str, on: bool) {
        self.rules.retain(|rule| {
            let old = &rule[1..];
            let below = old.strip_prefix(name).is_some_and(|rest| rest.starts_with('|'));
            old != name && !below
        });
        self.rules.push(format!("{}{name}", if on { '+' } else { '-' }));
    }

    fn set_all_keys(&mut self) {
        (self.all_keys, self.keys) = (true, Vec::new());
    }

    fn set_all_channels(&mut self) {
        (self.all_channels, self.channels) = (true, Vec::new());
    }

    fn add_keys_for(&mut self, modifier: &[u8]) -> Result<(), Refusal> {
        if self.all_keys {
            return Err(AFTER_ALL_KEYS);
        }
        let tilde = memchr::memchr(b'~', modifier).filter(|at| *at > 0).ok_or(SYNTAX)?;
        let flags = modifier[..tilde].to_ascii_lowercase();
        if !flags.iter().all(|flag| matches!(flag, b'r' | b'w')) {
            return Err(SYNTAX);
        }
        let (read, write) = (flags.contains(&b'r'), flags.contains(&b'w'));
        self.add_keys(&modifier[tilde + 1..], read, write)
    }

    fn add_keys(&mut self, glob: &[u8], read: bool, write: bool) -> Result<(), Refusal> {
        if glob.iter().any(|byte| byte.is_ascii_whitespace() || *byte == 0) {
            return Err(SYNTAX);
        }
        if self.all_keys {
            return Err(AFTER_ALL_KEYS);
        }
        if glob == b"*" && read && write {
            self.set_all_keys();
            return Ok(());
        }
        match self.keys.iter_mut().find(|pattern| pattern.glob == glob) {
            Some(pattern) => {
                pattern.read |= read;
                pattern.write |= write;
            }
            None => self.keys.push(KeyPattern { glob: glob.to_vec(), read, write }),
        }
        Ok(())
    }

    fn add_channels(&mut self, glob: &[u8]) -> Result<(), Refusal> {
        if glob.iter().any(|byte| byte.is_ascii_whitespace() || *byte == 0) {
            return Err(SYNTAX);
        }
        if self.all_channels {
            return Err(AFTER_ALL_CHANNELS);
        }
        if glob == b"*" {
            self.set_all_channels();
        } else if !self.channels.iter().any(|known| known == glob) {
            self.channels.push(glob.to_vec());
        }
        Ok(())
    }

    /// Whether a command may be run so, and if not, why.
    pub fn check(&self, id: CommandId, row: &Command, args: Args<'_>) -> Result<(), Denied> {
        if !self.allowed[id.index()] && !self.allows_argument(id, args) {
            return Err(Denied::Command);
        }
        if !self.all_keys {
            for (at, used) in key_uses(row, args).unwrap_or_default() {
                let fits = |pattern: &KeyPattern| {
                    (pattern.read || !used.reads())
                        && (pattern.write || !used.writes())
                        && glob::matches(&pattern.glob, args.at(at))
                };
                if !self.keys.iter().any(fits) {
                    return Err(Denied::Key(at));
                }
            }
        }
        if !self.all_channels { self.check_channels(row, args) } else { Ok(()) }
    }

    /// Whether any key may be read.
    pub fn reads_all_keys(&self) -> bool {
        self.all_keys || self.keys.iter().any(|pattern| pattern.read && pattern.glob == b"*")
    }

    fn allows_argument(&self, id: CommandId, args: Args<'_>) -> bool {
        let argument = args.get(1).unwrap_or_default();
        let mut allowed = self.first_arguments.iter();
        allowed.any(|(command, first)| *command == id && first.eq_ignore_ascii_case(argument))
    }

    fn check_channels(&self, row: &Command, args: Args<'_>) -> Result<(), Denied> {
        let (channels, literal) = match row.name {
            "publish" | "spublish" => (1..args.len().min(2), false),
            "subscribe" | "ssubscribe" => (1..args.len(), false),
            "psubscribe" => (1..args.len(), true),
            _ => return Ok(()),
        };
        let denied = |at: &usize| !self.allows_channel(args.at(*at), literal);
        channels.into_iter().find(denied).map_or(Ok(()), |at| Err(Denied::Channel(at)))
    }

    /// Whether it may use a channel; a pattern (`literal`) must be one of its own patterns word for word.
    pub fn allows_channel(&self, channel: &[u8], literal: bool) -> bool {
        let fits = |glob: &Vec<u8>| {
            if literal { glob == channel } else { glob::matches(glob, channel) }
        };
        self.all_channels || self.channels.iter().any(fits)
    }

    /// `-@all +get ...`
    pub fn commands_text(&self) -> String {
        let base = if self.all_base { "+@all" } else { "-@all" };
        std::iter::once(base)
            .chain(self.rules.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// `~a %R~b`, or `~*`.
    pub fn keys_text(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let one = |pattern: &KeyPattern| {
            let sign: &[u8] = match (pattern.read, pattern.write) {
                (true, true) => b"~",
                (true, false) => b"%R~",
                _ => b"%W~",
            };
            [sign, &pattern.glob].concat()
        };
        self.keys.iter().map(one).collect::<Vec<_>>().join(&b' ')
    }

    /// `&a &b`, or `&*`.
    pub fn channels_text(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        let one = |glob: &Vec<u8>| [b"&", &glob[..]].concat();
        self.channels.iter().map(one).collect::<Vec<_>>().join(&b' ')
    }

    /// As ACL LIST shows it.
    pub fn text(&self) -> Vec<u8> {
        let mut words = vec![self.keys_text()];
        if !self.all_channels {
            words.push(b"resetchannels".to_vec());
        }
        words.push(self.channels_text());
        words.push(self.commands_text().into_bytes());
        words.retain(|word| !word.is_empty());
        words.join(&b' ')
    }
}

/// A command by `name` or `name|subcommand`.
fn find(name: &[u8]) -> Option<CommandId> {
    match memchr::memchr(b'|', name) {
        None => table().lookup(name),
        Some(bar) => table().subcommand(table().lookup(&name[..bar])?, &name[bar + 1..]),
    }
}
