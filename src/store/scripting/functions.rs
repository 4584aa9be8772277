//! FUNCTION's libraries: a text that registers functions, which FCALL finds by name in any case. A library is loaded,
//! replaced and restored as a whole or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Counter, Engine, Handle, ScriptFlags, shebang};

/// One function.
#[derive(Clone, Debug)]
pub struct Function {
    /// As it was registered.
    pub name: Vec<u8>,
    /// The same for errors, and in lower case.
    pub names: (Arc<str>, Arc<str>),
    /// What it does.
    pub description: Option<Vec<u8>>,
    /// What it says about itself.
    pub flags: ScriptFlags,
    /// To run it.
    pub handle: Handle,
    /// Its runs.
    pub counter: Counter,
    library: String,
}

/// All libraries of a store.
#[derive(Debug, Default)]
pub struct Functions {
    /// Texts by name.
    libraries: BTreeMap<String, Vec<u8>>,
    /// By name in lower case.
    functions: BTreeMap<Vec<u8>, Function>,
}

/// What RESTORE does with the libraries that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// They go.
    Flush,
    /// They stay; one of the same name is an error.
    Append,
    /// They stay; one of the same name is replaced.
    Replace,
}

impl Functions {
    /// FUNCTION LOAD; answers the library's name.
    ///
    /// # Errors
    /// The error line; nothing has changed.
    pub fn load(
        &mut self,
        engine: &mut dyn Engine,
        text: &[u8],
        replace: bool,
    ) -> Result<String, Vec<u8>> {
        let (name, body) = shebang::library(text)?;
        if self.libraries.contains_key(&name) && !replace {
            return Err(format!("ERR Library '{name}' already exists").into_bytes());
        }
        let registered = engine.load_library(body)?;
        let handles: Vec<Handle> = registered.iter().map(|function| function.handle).collect();
        let mut functions = Vec::new();
        for function in registered {
            let mut flags = Some(ScriptFlags::default());
            for flag in &function.flags {
                flags = flags.and_then(|flags| flags.with(flag));
            }
            functions.push((function, flags));
        }
        let problem = self.problem(&name, &functions);
        if let Some(problem) = problem {
            handles.into_iter().for_each(|handle| engine.release(handle));
            return Err(problem);
        }
        self.delete(engine, &name);
        for (function, flags) in functions {
            let (flags, counter) = (flags.unwrap_or_default(), Counter::default());
            let super::Registered { name: own, description, handle, .. } = function;
            let key = own.to_ascii_lowercase();
            let library = name.clone();
            let text = |name: &[u8]| Arc::from(String::from_utf8_lossy(name));
            let names = (text(&own), text(&key));
            let row = Function { name: own, names, description, flags, handle, counter, library };
            self.functions.insert(key, row);
        }
        self.libraries.insert(name.clone(), text.to_vec());
        Ok(name)
    }

    fn problem(
        &self,
        library: &str,
        functions: &[(super::Registered, Option<ScriptFlags>)],
    ) -> Option<Vec<u8>> {
        if functions.is_empty() {
            return Some(b"ERR No functions registered".to_vec());
        }
        if functions.iter().any(|(_, flags)| flags.is_none()) {
            return Some(b"ERR Error registering functions: ERR unknown flag given".to_vec());
        }
        let taken = functions.iter().find(|(function, _)| {
            let known = self.functions.get(&function.name.to_ascii_lowercase());
            known.is_some_and(|known| known.library != library)
        })?;
        Some([b"ERR Function ", taken.0.name.as_slice(), b" already exists"].concat())
    }

    /// FUNCTION DELETE; whether there was such a library.
    pub fn delete(&mut self, engine: &mut dyn Engine, library: &str) -> bool {
        let existed = self.libraries.remove(library).is_some();
        if existed {
            self.functions.retain(|_, function| {
                let stays = function.library != library;
                if !stays {
                    engine.release(function.handle);
                }
                stays
            });
        }
        existed
    }

    /// FUNCTION FLUSH; the handles are to be released.
    pub fn flush(&mut self) -> Vec<Handle> {
        let old = std::mem::take(self);
        old.functions.into_values().map(|function| function.handle).collect()
    }

    /// FUNCTION RESTORE: all of the texts or none.
    ///
    /// # Errors
    /// The error line; nothing has changed.
    pub fn restore(
        &mut self,
        engine: &mut dyn Engine,
        texts: &[Vec<u8>],
        policy: Policy,
    ) -> Result<(), Vec<u8>> {
        let mut fresh = Functions::default();
        for text in texts {
            if let Err(problem) = fresh.load(engine, text, false) {
                fresh.flush().into_iter().for_each(|handle| engine.release(handle));
                return Err(problem);
            }
        }
        if let Some(problem) = self.clash(&fresh, policy) {
            fresh.flush().into_iter().for_each(|handle| engine.release(handle));
            return Err(problem);
        }
        if policy == Policy::Flush {
            self.flush().into_iter().for_each(|handle| engine.release(handle));
        }
        for name in fresh.libraries.keys() {
            self.delete(engine, name);
        }
        self.libraries.append(&mut fresh.libraries);
        self.functions.append(&mut fresh.functions);
        Ok(())
    }

    fn clash(&self, fresh: &Functions, policy: Policy) -> Option<Vec<u8>> {
        let same = fresh.libraries.keys().find(|name| self.libraries.contains_key(*name));
        match policy {
            Policy::Flush => return None,
            Policy::Append => {
                if let Some(name) = same {
                    return Some(format!("ERR Library {name} already exists").into_bytes());
                }
            }
            Policy::Replace => {}
        }
        let stays = |function: &&Function| !fresh.libraries.contains_key(&function.library);
        let taken =
            fresh.functions.keys().find(|name| self.functions.get(*name).filter(stays).is_some());
        let taken = &fresh.functions[taken?];
        Some([b"ERR Function ", taken.name.as_slice(), b" already exists"].concat())
    }

    /// The function that FCALL's first argument names.
    pub fn find(&self, name: &[u8]) -> Option<&Function> {
        self.functions.get(name).or_else(|| self.functions.get(&name.to_ascii_lowercase()))
    }

    /// The libraries in the order of their names: name and text.
    pub fn libraries(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        self.libraries.iter().map(|(name, text)| (name.as_str(), text.as_slice()))
    }

    /// A library's functions.
    pub fn of(&self, library: &str) -> impl Iterator<Item = &Function> {
        self.functions.values().filter(move |function| function.library == library)
    }

    /// All functions.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Function> {
        self.functions.values()
    }

    pub(super) fn counter(&mut self, name: &[u8]) -> Option<&mut Counter> {
        self.functions.get_mut(name).map(|function| &mut function.counter)
    }
}
