//! The rows of all command files as one table, found by name in constant time.
//!
//! A name of any case is folded into two words (its first and last eight bytes) and multiplied into an index; the
//! multiplier is searched once so that no two names share a place. So a lookup is one multiplication, one load and one
//! comparison, and subcommands have indexes (for counters) like all others.

use std::sync::LazyLock;

use super::{Command, Flags, GROUPS, Keys};
use crate::store::{Args, Hasher};

/// Not fast in Redis's sense and yet run by the million, on little data: with few and short arguments not timed.
const OFTEN: &[&str] =
    &["set", "setex", "psetex", "mset", "getrange", "setrange", "del", "unlink", "ping"];

/// A row's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u16);

impl CommandId {
    /// No such command.
    pub const UNKNOWN: CommandId = CommandId(u16::MAX);

    /// As an index of per-command arrays; past their end for [`CommandId::UNKNOWN`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// All rows and the index over their names.
pub struct Table {
    rows: Vec<Row>,
    slots: Vec<u16>,
    multiplier: u64,
    shift: u32,
}

struct Row {
    command: &'static Command,
    name: Folded,
    /// Subcommands' rows follow each other.
    first_subcommand: u16,
    parent: Option<u16>,
    /// It has no subcommands.
    is_ordinary: bool,
    shape: Shape,
}

/// What a batch must know of a command before it runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape {
    /// The argument that is its first key, or most likely is: a script's; 0 if none is.
    key_at: u8,
    /// The argument that names a member of the collection at its key; 0 if none does.
    member_at: u8,
    /// It can take long: it is timed by itself.
    pub is_timed: bool,
}

impl Shape {
    /// Of what isn't in the table, in practice a command written in Lua, whose first argument mostly is a key.
    const UNKNOWN: Shape = Shape { key_at: 1, member_at: 0, is_timed: false };

    /// The hash of the first key; 0 if there is none. Of a script's or an unknown command for prefetching only.
    #[inline]
    pub fn key_hash(self, args: Args<'_>, hasher: &Hasher) -> u64 {
        let at = usize::from(self.key_at);
        if at > 0 && args.len() > at { hasher.hash(args.at(at)) } else { 0 }
    }

    /// The hash of the member that the command looks up first; 0 if it names none. For prefetching only.
    #[inline]
    pub fn member_hash(self, args: Args<'_>, hasher: &Hasher) -> u64 {
        let at = usize::from(self.member_at);
        if at > 0 && args.len() > at { hasher.hash(args.at(at)) } else { 0 }
    }
}

/// A name in two words that cover it up to 16 bytes, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    head: u64,
    tail: u64,
    len: usize,
}

/// A name without case.
type Folded = Words;

/// The table of this build.
pub fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(GROUPS));
    &TABLE
}

impl Table {
    fn new(groups: &[&'static [Command]]) -> Table {
        let mut rows: Vec<Row> =
            groups.iter().flat_map(|group| group.iter()).map(Row::top).collect();
        let top_level = rows.len();
        for parent in 0..top_level {
            rows[parent].first_subcommand = rows.len() as u16;
            let children = rows[parent].command.subcommands.iter();
            rows.extend(
                children.map(|child| Row { parent: Some(parent as u16), ..Row::top(child) }),
            );
        }
        assert!(rows.len() < usize::from(CommandId::UNKNOWN.0), "rows fit their index");
        let names: Vec<Folded> = rows[..top_level].iter().map(|row| row.name).collect();
        let (multiplier, shift, slots) = perfect_index(&names);
        Table { rows, slots, multiplier, shift }
    }

    /// The command called `name`, in any case.
    pub fn lookup(&self, name: &[u8]) -> Option<CommandId> {
        let folded = Folded::new(name);
        let id = self.slots[folded.slot(self.multiplier, self.shift)];
        let row = self.rows.get(usize::from(id))?;
        let same = row.name == folded
            && (folded.is_whole() || row.command.name.as_bytes().eq_ignore_ascii_case(name));
        same.then_some(CommandId(id))
    }

    /// The subcommand of `parent` called `name`, in any case.
    pub fn subcommand(&self, parent: CommandId, name: &[u8]) -> Option<CommandId> {
        let row = &self.rows[parent.index()];
        let found = row
            .command
            .subcommands
            .iter()
            .position(|command| command.name.as_bytes().eq_ignore_ascii_case(name))?;
        Some(CommandId(row.first_subcommand + found as u16))
    }

    /// The row that `args` name: a command, or its subcommand if it has the one that is asked for.
    #[inline]
    pub fn resolve(&self, args: Args<'_>) -> CommandId {
        let Some(id) = args.get(0).and_then(|name| self.lookup(name)) else {
            return CommandId::UNKNOWN;
        };
        if args.len() > 1 && !self.row(id).subcommands.is_empty() {
            return self.subcommand(id, args.at(1)).unwrap_or(id);
        }
        id
    }

    /// The hash of the first key; 0 if there is none.
    #[inline]
    pub fn key_hash(&self, id: CommandId, args: Args<'_>, hasher: &Hasher) -> u64 {
        self.shape(id).key_hash(args, hasher)
    }

    /// What a batch must know of a command.
    #[inline]
    pub fn shape(&self, id: CommandId) -> Shape {
        self.rows.get(id.index()).map_or(Shape::UNKNOWN, |row| row.shape)
    }

    /// Whether a known command is what its name says, whatever its arguments.
    pub fn is_plain(&self, id: CommandId) -> bool {
        self.row(id).subcommands.is_empty() && self.rows[id.index()].parent.is_none()
    }

    /// The row of a command that is no container of others; none for an unknown one.
    #[inline]
    pub fn ordinary(&self, id: CommandId) -> Option<&'static Command> {
        self.rows.get(id.index()).filter(|row| row.is_ordinary).map(|row| row.command)
    }

    /// The row of a known command.
    #[inline]
    pub fn row(&self, id: CommandId) -> &'static Command {
        self.rows[id.index()].command
    }

    /// `get`, or `config|get` for a subcommand.
    pub fn full_name(&self, id: CommandId) -> String {
        let row = &self.rows[id.index()];
        match row.parent {
            Some(parent) => {
                format!("{}|{}", self.rows[usize::from(parent)].command.name, row.command.name)
            }
            None => row.command.name.to_owned(),
        }
    }

    /// Whether it isn't a subcommand.
    pub fn is_top_level(&self, id: CommandId) -> bool {
        self.rows[id.index()].parent.is_none()
    }

    /// How many rows, subcommands included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All rows, top-level commands first.
    pub fn ids(&self) -> impl Iterator<Item = CommandId> + use<> {
        (0..self.rows.len() as u16).map(CommandId)
    }

    /// The rows that aren't subcommands.
    pub fn top_level(&self) -> impl Iterator<Item = CommandId> + use<'_> {
        self.ids().take_while(|id| self.rows[id.index()].parent.is_none())
    }
}

impl Row {
    fn top(command: &'static Command) -> Row {
        let name = Folded::new(command.name.as_bytes());
        let is_timed = !command.flags.has(Flags::FAST) && !OFTEN.contains(&command.name);
        let key_at = key_at(command);
        let shape = Shape { key_at, member_at: member_at(command), is_timed };
        let is_ordinary = command.subcommands.is_empty();
        Row { command, name, first_subcommand: 0, parent: None, is_ordinary, shape }
    }
}

/// Where a command has its first key; scripts' keys follow their number.
fn key_at(command: &Command) -> u8 {
    const RUN_SCRIPTS: [&str; 6] =
        ["eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro"];
    if RUN_SCRIPTS.contains(&command.name) {
        return 3;
    }
    u8::try_from(command.keys.first).unwrap_or_default()
}

/// Where a command has the member that it looks up first.
fn member_at(command: &Command) -> u8 {
    let in_collection = command.keys == Keys::ONE && command.arity.abs() >= 3;
    match (command.group, command.name) {
        ("set" | "hash", _) if in_collection => 2,
        ("sorted-set", "zscore" | "zrank" | "zrevrank" | "zrem" | "zmscore") => 2,
        ("sorted-set", "zadd" | "zincrby") => 3,
        _ => 0,
    }
}

impl Words {
    /// A name as it is.
    #[inline]
    pub fn exactly(name: &[u8]) -> Words {
        let len = name.len();
        let (head, tail) = if len >= 8 {
            (word(&name[..8]), word(&name[len - 8..]))
        } else if len >= 4 {
            (half(&name[..4]), half(&name[len - 4..]))
        } else {
            let byte = |index: usize| u64::from(name.get(index).copied().unwrap_or_default());
            (byte(0) | byte(1) << 8 | byte(2) << 16, 0)
        };
        Words { head, tail, len }
    }

    /// Whether they are all of the name.
    pub fn is_whole(self) -> bool {
        self.len <= 2 * size_of::<u64>()
    }

    fn new(name: &[u8]) -> Folded {
        let Words { head, tail, len } = Words::exactly(name);
        Words { head: fold(head), tail: fold(tail), len }
    }

    fn slot(self, multiplier: u64, shift: u32) -> usize {
        let mixed = self.head ^ self.tail.rotate_left(29) ^ self.len as u64;
        (mixed.wrapping_mul(multiplier) >> shift) as usize
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes were cut out"))
}

fn half(bytes: &[u8]) -> u64 {
    u64::from(u32::from_le_bytes(bytes.try_into().expect("four bytes were cut out")))
}

/// ASCII capitals of eight bytes to lower case; exact, so that equal words mean equal names.
fn fold(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7f * ONES);
    let at_least_a = low + (0x80 - u64::from(b'A')) * ONES;
    let past_z = low + (0x7f - u64::from(b'Z')) * ONES;
    let ascii = !word & (0x80 * ONES);
    word | (ascii & (at_least_a ^ past_z)) >> 2
}

/// A multiplier, a shift and the slots under which no two names collide.
///
/// n names in m slots miss each other with probability e^(-n²/2m): 250 names in 4096 slots need some 2,000 tries, and a
/// table of twice the size half the logarithm of that.
fn perfect_index(names: &[Folded]) -> (u64, u32, Vec<u16>) {
    for bits in 12..=16 {
        let mut slots = vec![CommandId::UNKNOWN.0; 1 << bits];
        for attempt in 1..=4096_u64 {
            let multiplier = attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) | 1;
            if fill(&mut slots, names, multiplier, 64 - bits) {
                return (multiplier, 64 - bits, slots);
            }
            slots.fill(CommandId::UNKNOWN.0);
        }
    }
    panic!("no index without collisions: two commands have the same name");
}

fn fill(slots: &mut [u16], names: &[Folded], multiplier: u64, shift: u32) -> bool {
    names.iter().enumerate().all(|(id, name)| {
        let slot = &mut slots[name.slot(multiplier, shift)];
        let free = *slot == CommandId::UNKNOWN.0;
        *slot = id as u16;
        free
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ArgsBuffer;

    #[test]
    fn every_row_is_found_by_its_name_in_any_case_and_nothing_else_is() {
        let table = table();
        for id in table.top_level() {
            let name = table.row(id).name;
            assert_eq!(table.lookup(name.as_bytes()), Some(id), "{name}");
            assert_eq!(table.lookup(name.to_uppercase().as_bytes()), Some(id), "{name}");
            for other in [format!("{name}x"), format!("x{name}"), name[1..].to_owned()] {
                let found = table.lookup(other.as_bytes()).map(|id| table.row(id).name);
                assert!(
                    found.is_none() || found == Some(other.as_str()),
                    "{other} found {found:?}"
                );
            }
            for child in table.row(id).subcommands {
                let found = table.subcommand(id, child.name.to_uppercase().as_bytes());
                assert_eq!(
                    found.map(|found| table.full_name(found)),
                    Some(format!("{name}|{}", child.name))
                );
            }
        }
        for name in [&b""[..], b"\0", b"g\0t", b"GE\x14", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
            assert_eq!(table.lookup(name), None);
        }
    }

    #[test]
    fn every_row_makes_sense() {
        let table = table();
        for id in table.ids() {
            let row = table.row(id);
            let name = table.full_name(id);
            assert!(
                !row.name.is_empty() && !row.name.bytes().any(|b| b.is_ascii_uppercase()),
                "{name}"
            );
            assert!(row.arity != 0, "{name}: arity counts the name");
            assert!(row.summary.len() > 8 && !row.summary.ends_with('.'), "{name}: summary");
            assert!(row.since.split('.').count() == 3, "{name}: since is a version");
            assert!(!row.group.is_empty(), "{name}: group");
            let (keys, least) = (row.keys, row.arity.abs());
            let none = keys.first == 0 && keys.last == 0 && keys.step == 0;
            let some = keys.first > 0 && keys.step > 0 && keys.first < least && keys.last != 0;
            assert!(none || some, "{name}: keys {keys:?} against arity {}", row.arity);
            assert!(keys.last < least.max(1), "{name}: last key past the arity");
            assert!(!(row.flags.has(Flags::WRITE) && row.flags.has(Flags::READONLY)), "{name}");
            assert!(
                row.subcommands.is_empty() || row.keys.first == 0,
                "{name}: a container has no keys"
            );
        }
    }

    #[test]
    fn subcommands_are_unique() {
        for id in table().top_level() {
            let mut names: Vec<&str> =
                table().row(id).subcommands.iter().map(|row| row.name).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{}", table().row(id).name);
        }
    }

    #[test]
    fn folding_touches_capitals_only() {
        for byte in 0..=255_u8 {
            let expected = u64::from(byte.to_ascii_lowercase());
            assert_eq!(fold(u64::from(byte) << 24), expected << 24, "{byte}");
        }
    }

    #[test]
    fn keys_of_scripts_and_of_commands_in_lua_are_hashed_too() {
        let (table, hasher) = (table(), Hasher::seeded(1));
        for (words, key) in [
            (&["get", "k"][..], Some("k")),
            (&["evalsha", "sha", "1", "k", "argument"], Some("k")),
            (&["FCALL_RO", "name", "1", "k"], Some("k")),
            (&["eval", "text", "0"], None),
            (&["made.in.lua", "k"], Some("k")),
            (&["made.in.lua"], None),
            (&["ping"], None),
        ] {
            let mut buffer = ArgsBuffer::default();
            buffer.extend(words.iter().map(|word| word.as_bytes()));
            let args = buffer.args();
            let hash = table.key_hash(table.resolve(args), args, &hasher);
            assert_eq!(hash, key.map_or(0, |key| hasher.hash(key.as_bytes())), "{words:?}");
        }
    }
}
