//! The file of users (`aclfile`): its text, and what ACL LOAD and ACL SAVE want of whoever can read and write it.
//!
//! Must not know: files. A load changes everything or nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Acl, User};
use crate::store::clients::Delivery;
use crate::store::instance::Instance;
use crate::store::{Session, Store};

/// What somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// ACL LOAD: the file's text is wanted.
    Load { wait: u64 },
    /// ACL SAVE: this is to be the file's text.
    Save { wait: u64, text: Vec<u8> },
}

impl Errand {
    /// The wait of the command.
    pub fn wait(&self) -> u64 {
        match self {
            Errand::Load { wait } | Errand::Save { wait, .. } => *wait,
        }
    }
}

/// A store's file of users.
#[derive(Clone)]
pub struct AclFile {
    /// As it was configured.
    pub path: String,
    /// Does an errand, called without the store.
    pub run: Run,
}

/// See [`AclFile::run`].
pub type Run = Arc<dyn Fn(Errand) + Send + Sync>;

/// Users by their lines, as ACL SAVE writes them: `user NAME RULE ...`; empty lines and those that begin with `#` say nothing.
///
/// # Errors
/// All that is wrong, in Redis's words.
pub fn parse(text: &[u8], path: &str, all_channels: bool) -> Result<Vec<User>, String> {
    let mut users: BTreeMap<Vec<u8>, User> = BTreeMap::new();
    let mut errors = String::new();
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match user_of(line, all_channels) {
            Ok(user) if users.contains_key(&user.name) => {
                let name = String::from_utf8_lossy(&user.name).into_owned();
                errors += &format!("{path}:{number}: user '{name}' is there twice. ");
            }
            Ok(user) => drop(users.insert(user.name.clone(), user)),
            Err(reason) => errors += &format!("{path}:{number}: {reason}. "),
        }
    }
    match errors.is_empty() {
        true => Ok(users.into_values().collect()),
        false => Err(format!(
            "{errors}WARNING: ACL errors detected, no change to the previously active ACL rules was performed"
        )),
    }
}

fn user_of(line: &[u8], all_channels: bool) -> Result<User, String> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (Some(b"user"), Some(name)) = (words.next(), words.next()) else {
        return Err("line should start with user keyword".to_owned());
    };
    let mut user = User::new(name, all_channels);
    let merged = super::merged(words)
        .map_err(|open| format!("Unmatched parenthesis in acl selector starting at '{open}'"))?;
    for modifier in merged {
        user.modify(&modifier, all_channels).map_err(|reason| {
            let shown = String::from_utf8_lossy(&modifier);
            format!("Error in applying operation '{shown}': {reason}")
        })?;
    }
    Ok(user)
}

impl Acl {
    /// The file's text.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for user in self.users() {
            text.extend_from_slice(&user.text());
            text.push(b'\n');
        }
        text
    }

    /// These users and no others; `default` may do everything if it isn't among them. Returns the names of those that have
    /// changed or gone.
    pub fn replace(&mut self, users: Vec<User>) -> Vec<Vec<u8>> {
        let before = std::mem::take(&mut self.users);
        self.put(User::unrestricted());
        users.into_iter().for_each(|user| self.put(user));
        let same =
            |name: &Vec<u8>, user: &Arc<User>| self.users.get(name).is_some_and(|now| now == user);
        let changed = before.into_iter().filter(|(name, user)| !same(name, user));
        changed.map(|(name, _)| name).collect()
    }
}

impl Instance {
    /// What is to be done with the file, and who does it.
    pub(in crate::store) fn take_acl_errands(&mut self) -> Option<(Run, Vec<Errand>)> {
        if self.acl_errands.is_empty() {
            return None;
        }
        let errands = std::mem::take(&mut self.acl_errands);
        self.acl_file.as_ref().map(|file| (Arc::clone(&file.run), errands))
    }
}

impl Store {
    /// The file's text has been read, or it couldn't be. Connections of users that are gone or have other rules are closed.
    pub fn acl_loaded(&mut self, wait: u64, text: Result<Vec<u8>, String>) {
        let all_channels = self.instance.config.acl_all_channels;
        let path = self.instance.acl_file.as_ref().map_or("", |file| file.path.as_str());
        let users = text
            .map_err(|error| format!("Error loading ACLs, opening file '{path}': {error}"))
            .and_then(|text| parse(&text, path, all_channels));
        let result = users.map(|users| {
            for name in self.instance.acl.replace(users) {
                self.close_connections_of(&name);
            }
        });
        self.acl_answered(wait, result);
    }

    /// The file has been written, or it couldn't be.
    pub fn acl_answered(&mut self, wait: u64, result: Result<(), String>) {
        let reply = match result {
            Ok(()) => "+OK\r\n".to_owned(),
            Err(reason) => format!("-ERR {}\r\n", reason.replace(['\r', '\n'], " ")),
        };
        self.answer_wait(wait, reply.into_bytes());
        self.post_deliveries();
    }

    fn close_connections_of(&mut self, name: &[u8]) {
        let of_user =
            |session: &Session| session.user.as_ref().is_some_and(|user| user.name == name);
        let clients = self.instance.clients.sorted().into_iter();
        let theirs = clients.filter(|client| client.session.as_ref().is_some_and(of_user));
        let theirs: Vec<u64> = theirs.map(|client| client.connection).collect();
        for connection in theirs {
            self.instance.clients.deliver(Delivery::Close { connection });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::crowd::Crowd;

    #[test]
    fn a_file_says_what_is_wrong_with_it() {
        let text =
            b"# staff\nuser a on >pw ~* +@all\n\nbanana\nuser b +nosuch\nuser a off\nuser c (~x";
        let error = parse(text, "users.acl", false).expect_err("four lines are wrong");
        assert_eq!(
            error,
            "users.acl:4: line should start with user keyword. users.acl:5: Error in applying operation '+nosuch': Unknown \
             command or category name in ACL. users.acl:6: user 'a' is there twice. users.acl:7: Unmatched parenthesis in acl \
             selector starting at '(~x'. WARNING: ACL errors detected, no change to the previously active ACL rules was \
             performed"
        );
    }

    #[test]
    fn what_is_saved_is_loaded_and_changed_users_are_closed() {
        let mut crowd = Crowd::new(3);
        let path = "users.acl".to_owned();
        crowd.store.instance.acl_file = Some(AclFile { path, run: Arc::new(|_| {}) });
        crowd.check(&[
            ("a acl setuser bob on >pw allkeys +get (allkeys +set)", "+OK", ""),
            ("a acl setuser eve on >pw +ping", "+OK", ""),
            ("b auth bob pw", "+OK", ""),
            ("c auth eve pw", "+OK", ""),
            ("a acl save", "", ""),
        ]);
        let errand = crowd.store.instance.acl_errands.pop();
        let Some(Errand::Save { wait, text }) = errand else { panic!("a file is to be written") };
        crowd.store.acl_answered(wait, Ok(()));
        crowd.sessions[0].end_wait();
        let text = String::from_utf8(text).expect("rules are text");
        assert_eq!(text.lines().count(), 3, "{text}");
        let text = text.replace("user eve on", "user eve off");
        crowd.check(&[("a acl setuser eve on +get", "+OK", ""), ("a acl load", "", "")]);
        let errand = crowd.store.instance.acl_errands.pop();
        let Some(Errand::Load { wait }) = errand else { panic!("a file is to be read") };
        crowd.store.acl_loaded(wait, Ok(text.into_bytes()));
        crowd.sessions[0].end_wait();
        assert!(crowd.run(0, "acl getuser eve").contains("$3 off"));
    }
}
