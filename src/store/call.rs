//! What a command's handler receives, and how it says no.

use super::instance::Instance;
use super::{Args, Keyspace, Reply, Session};

/// One command being executed. Handlers take the fields apart (`let Call { keyspace, args, reply, .. } = call;`).
pub struct Call<'a> {
    /// All databases of the store.
    pub keyspace: &'a mut Keyspace,
    /// The store apart from its data: parameters, clients, counters.
    pub instance: &'a mut Instance,
    /// The client's state.
    pub session: &'a mut Session,
    /// The command's name and arguments; the arity has been checked.
    pub args: Args<'a>,
    /// The hash of the command's first key (0 for commands without keys), made before the lock.
    pub hash: u64,
    /// The store's time in milliseconds since the epoch; the same for the whole batch.
    pub now_ms: u64,
    /// Where the answer goes. A handler that returns an error may have written nothing before.
    pub reply: Reply<'a>,
}

/// `Ok` when the reply was written; an error is written by the caller.
pub type CommandResult = Result<(), CommandError>;

/// Why a command was refused; the texts are Redis's, clients branch on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// The key holds another type.
    WrongType,
    /// A value or argument isn't a 64-bit integer.
    NotInteger,
    /// A value or argument isn't a float.
    NotFloat,
    /// The options make no sense together or aren't known.
    Syntax,
    /// An index outside of the list.
    IndexOutOfRange,
    /// `ERR no such key`
    NoSuchKey,
    /// An integer would leave its 64 bits.
    Overflow,
    /// The whole line, its code first.
    Text(&'static str),
    /// The whole line, its code first.
    Owned(Vec<u8>),
}

impl CommandError {
    /// The error line without its leading `-`.
    pub fn line(&self) -> &[u8] {
        match self {
            CommandError::WrongType => {
                b"WRONGTYPE Operation against a key holding the wrong kind of value"
            }
            CommandError::NotInteger => b"ERR value is not an integer or out of range",
            CommandError::NotFloat => b"ERR value is not a valid float",
            CommandError::Syntax => b"ERR syntax error",
            CommandError::IndexOutOfRange => b"ERR index out of range",
            CommandError::NoSuchKey => b"ERR no such key",
            CommandError::Overflow => b"ERR increment or decrement would overflow",
            CommandError::Text(text) => text.as_bytes(),
            CommandError::Owned(text) => text,
        }
    }
}
