//! The file of a cache's users: read when the cache starts, and read and written for ACL LOAD and ACL SAVE by helper threads.
//!
//! Must not know: rules.

use std::path::Path;
use std::sync::{Arc, Weak};

use super::errands::{self, Errands};
use crate::limits::ACL_FILE_BYTES_MAX;
use crate::lua::{self, Outcome};
use crate::ring::clock;
use crate::store::SharedStore;
use crate::store::acl::file::{AclFile, Errand};

/// The file's text.
///
/// # Errors
/// It can't be read; why.
pub fn read(path: &str) -> Result<Vec<u8>, String> {
    let path = Path::new(path).to_path_buf();
    match errands::perform(lua::Errand::Read { path, bytes_max: ACL_FILE_BYTES_MAX }) {
        Outcome::Bytes(bytes) => Ok(bytes),
        Outcome::Failed { text, .. } => Err(text),
        _ => Err("it has no text".to_owned()),
    }
}

/// What a store needs to have that file read and written.
pub fn of(store: &Arc<SharedStore>, path: &str, errands: &Errands) -> AclFile {
    let (store, errands, own) = (Arc::downgrade(store), errands.clone(), path.to_owned());
    let run = move |errand: Errand| {
        let wait = errand.wait();
        let (store, path) = (Weak::clone(&store), own.clone());
        let late = Weak::clone(&store);
        if !errands.run(move || perform(&store, &path, errand))
            && let Some(store) = late.upgrade()
        {
            let reason = "too many files wait to be read and written; try again".to_owned();
            store.lock(clock::now().unix_ms).acl_answered(wait, Err(reason));
        }
    };
    AclFile { path: path.to_owned(), run: Arc::new(run) }
}

/// **Blocks.**
fn perform(store: &Weak<SharedStore>, path: &str, errand: Errand) {
    match errand {
        Errand::Load { wait } => {
            let text = read(path);
            if let Some(store) = store.upgrade() {
                store.lock(clock::now().unix_ms).acl_loaded(wait, text);
            }
        }
        Errand::Save { wait, text } => {
            let path = Path::new(path).to_path_buf();
            let write = lua::Errand::Write { path, bytes: text, appends: false };
            let result = match errands::perform(write) {
                Outcome::Failed { text, .. } => Err(format!("saving the users failed: {text}")),
                _ => Ok(()),
            };
            if let Some(store) = store.upgrade() {
                store.lock(clock::now().unix_ms).acl_answered(wait, result);
            }
        }
    }
}
