//! Installs the commands that a cache's definition has in Lua, with the version of the app that runs.
//!
//! Must not know: what a command does, who calls it.

use crate::error::ScriptError;
use crate::id::AppId;
use crate::lua::AppVm;
use crate::store::scripting::commands::CommandFile;

use super::{Placement, RuntimeKind};

/// Makes the commands of `placement`'s definition those of its store.
///
/// # Errors
/// The file can't be read for its commands, or one has a name that is taken.
pub fn install(
    placement: &Placement,
    app: AppId,
    vm: &AppVm,
    now_ms: u64,
) -> Result<(), ScriptError> {
    let own = placement.app.is_some_and(|(owner, _)| owner == app);
    let (Some(store), true, RuntimeKind::Cache) = (&placement.store, own, placement.config.kind)
    else {
        return Ok(());
    };
    let files = vm.sources().into_iter();
    let file = CommandFile {
        generation: vm.generation(),
        cache: placement.config.name.clone(),
        files: files.map(|(path, text)| (path.display().to_string(), text)).collect(),
    };
    let installed = store.lock(now_ms).install_commands(&file, &placement.config.commands);
    installed.map_err(|problem| ScriptError {
        message: format!("cache \"{}\": {problem}", placement.config.name),
        ..ScriptError::default()
    })
}
