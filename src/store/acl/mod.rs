//! Users and what they may do (Redis's ACL).
//!
//! A session keeps its user's rules and a flag that says whether anything is forbidden: a session that may do everything
//! pays one comparison for a change of users. Passwords are kept as SHA-256. It knows no connection; whose user is
//! deleted is closed by `commands/acl.rs`.

mod log;
mod selector;
mod user;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::commands::{CommandId, table};
use super::session::State;
use super::{Args, Session};
pub use log::{Entry, Log, Reason};
pub use selector::Selector;
pub use user::User;

/// The categories of commands, in the order of ACL CAT.
pub const CATEGORIES: &[&str] = &[
    "@keyspace",
    "@read",
    "@write",
    "@set",
    "@sortedset",
    "@list",
    "@hash",
    "@string",
    "@bitmap",
    "@hyperloglog",
    "@geo",
    "@stream",
    "@pubsub",
    "@admin",
    "@fast",
    "@slow",
    "@blocking",
    "@dangerous",
    "@connection",
    "@transaction",
    "@scripting",
];

/// What a user may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The command at all.
    Command,
    /// The key in this argument.
    Key(usize),
    /// The channel in this argument.
    Channel(usize),
}

impl Denied {
    /// The one of two reasons whose check comes later; of the same kind, the one whose argument does.
    fn further(self, other: Denied) -> Denied {
        let order = |denied: Denied| match denied {
            Denied::Command => (0, 0),
            Denied::Key(at) => (1, at),
            Denied::Channel(at) => (2, at),
        };
        if order(other) > order(self) { other } else { self }
    }

    /// In the words of EXEC.
    pub fn reason(self) -> &'static str {
        match self {
            Denied::Command => "no permission to execute the command or subcommand",
            Denied::Key(_) => "no permission to touch the specified keys",
            Denied::Channel(_) => {
                "no permission to access one of the channels used as arguments to the command"
            }
        }
    }

    /// As ACL LOG has it.
    pub fn logged(self, id: CommandId, args: Args<'_>) -> (Reason, Vec<u8>) {
        match self {
            Denied::Command => (Reason::Command, table().full_name(id).into_bytes()),
            Denied::Key(at) => (Reason::Key, args.at(at).to_vec()),
            Denied::Channel(at) => (Reason::Channel, args.at(at).to_vec()),
        }
    }

    /// What NOPERM says.
    pub fn text(self, user: &User, id: CommandId) -> Vec<u8> {
        match self {
            Denied::Command => self.full_text(user, id, b""),
            Denied::Key(_) => b"No permissions to access a key".to_vec(),
            Denied::Channel(_) => b"No permissions to access a channel".to_vec(),
        }
    }

    /// The same with the argument's name, as ACL DRYRUN answers.
    pub fn full_text(self, user: &User, id: CommandId, argument: &[u8]) -> Vec<u8> {
        let who = [b"User ", &user.name[..], b" has no permissions to "].concat();
        let (verb, kind) = match self {
            Denied::Command => {
                let name = table().full_name(id);
                return [&who, &b"run the '"[..], name.as_bytes(), b"' command"].concat();
            }
            Denied::Key(_) => ("access the '", "' key"),
            Denied::Channel(_) => ("access the '", "' channel"),
        };
        [&who, verb.as_bytes(), argument, kind.as_bytes()].concat()
    }
}

/// All users of a store.
#[derive(Debug)]
pub struct Acl {
    users: BTreeMap<Vec<u8>, Arc<User>>,
    /// Grows with every change.
    epoch: u64,
    /// What was refused.
    pub log: Log,
}

impl Acl {
    /// `default` alone, with that password if there is one.
    pub fn new(password: Option<&[u8]>) -> Acl {
        let mut acl = Acl { users: BTreeMap::new(), epoch: 0, log: Log::default() };
        acl.put(User::unrestricted());
        acl.set_password(password);
        acl
    }

    /// requirepass: `default` has this password and no other, or needs none.
    pub fn set_password(&mut self, password: Option<&[u8]>) {
        let mut user = (**self.default_user()).clone();
        let modifier = match password {
            Some(password) => [b">", password].concat(),
            None => b"nopass".to_vec(),
        };
        for modifier in [&b"resetpass"[..], &modifier] {
            user.modify(modifier, true).expect("these modifiers can't be wrong");
        }
        self.put(user);
    }

    /// The user that connections begin as.
    pub fn default_user(&self) -> &Arc<User> {
        &self.users[&b"default"[..]]
    }

    /// A user by name.
    pub fn user(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// All by name.
    pub fn users(&self) -> impl ExactSizeIterator<Item = &Arc<User>> {
        self.users.values()
    }

    /// Adds or replaces a user.
    pub fn put(&mut self, user: User) {
        self.epoch += 1;
        self.users.insert(user.name.clone(), Arc::new(user));
    }

    /// Deletes a user; whether there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        self.epoch += 1;
        self.users.remove(name).is_some()
    }

    /// A connection begins: as `default` if that needs no password.
    pub fn begin(&self, session: &mut Session) {
        let user = self.default_user();
        session.state.set(State::UNAUTHENTICATED, !(user.without_password && user.enabled));
        self.assume(session, Arc::clone(user));
    }

    /// Makes the session that user's, if the password is right.
    pub fn authenticate(&self, session: &mut Session, name: &[u8], password: &[u8]) -> bool {
        let Some(user) = self.users.get(name).filter(|user| user.accepts(password)) else {
            return false;
        };
        session.state.set(State::UNAUTHENTICATED, false);
        self.assume(session, Arc::clone(user));
        true
    }

    fn assume(&self, session: &mut Session, user: Arc<User>) {
        session.state.set(State::RESTRICTED, !user.is_unrestricted());
        session.user = Some(user);
        session.acl_epoch = self.epoch;
    }

    /// Grows with every change of the rules.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the session's rules may be old.
    #[inline]
    pub fn has_changed(&self, session: &Session) -> bool {
        session.acl_epoch != self.epoch
    }

    /// Takes the rules of now. A session whose user is gone may do nothing more.
    #[cold]
    pub fn refresh(&self, session: &mut Session) {
        let Some(user) = session.user.take() else {
            session.acl_epoch = self.epoch;
            return;
        };
        match self.users.get(&user.name) {
            Some(user) => self.assume(session, Arc::clone(user)),
            None => {
                session.state.set(State::UNAUTHENTICATED, true);
                self.assume(session, Arc::new(User::new(&user.name, false)));
            }
        }
    }
}

/// Bytes as lower-case hexadecimal.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
