//! Builds LuaJIT with its check hook and links it into the binary.
//!
//! `LUAJIT_ENABLE_CHECKHOOK` lets compiled code see a hook that a signal armed; without it an endless
//! loop, once compiled, could not be stopped. `CCOPT` is a variable of LuaJIT's own Makefile: no other C dependency
//! reads it, as a global `CFLAGS` would be.
//!
//! LuaJIT's pattern matcher is C code, where no hook is looked at: `("a"):rep(30):find(("a*"):rep(30) .. "b")` would hold
//! its worker for years. So each step of the matcher counts as an instruction of an armed count hook does, and calls it for
//! the matcher's caller when the count has run out.
//!
//! A C function answers an `int`, whose register may hold anything in its upper half (System V ABI, AMD64, 3.2.3).
//! LuaJIT's interpreter uses all of it, which ends in a crash as soon as a compiler makes use of that liberty, as Rust's
//! does. So the upper half is cleared there.
//!
//! The compiler is called through a script that makes these changes in the copy of the source that is about to be built.

#![allow(
    unsafe_code,
    reason = "setting an environment variable for make is unsafe since edition 2024"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The matcher's only check, once in LuaJIT's `lib_string.c`, and what it becomes.
const MATCHER_CHECK: &str = "if (++ms->depth > LJ_MAX_XLEVEL)";
const MATCHER_CHECK_COUNTED: &str = "\
  if ((G(ms->L)->hookmask \\& LUA_MASKCOUNT) \\&\\& --G(ms->L)->hookcount <= 0) { \
    lua_Debug ar; \
    G(ms->L)->hookcount = G(ms->L)->hookcstart; \
    if (G(ms->L)->hookf \\&\\& lua_getstack(ms->L, 1, \\&ar)) { \
      ar.event = LUA_HOOKCOUNT; \
      G(ms->L)->hookf(ms->L, \\&ar); \
    } \
  } \
  if (++ms->depth > LJ_MAX_XLEVEL)";

/// Where LuaJIT's `vm_x64.dasc` takes over what a C function answered, and what is put there.
const C_RESULT: &str = "|  // nresults returned in eax (RD).";
const C_RESULT_CLEARED: &str = "|  mov RDd, RDd";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // SAFETY: the build script has one thread, and nothing else has read the environment yet.
    unsafe { std::env::set_var("CCOPT", "-O3 -fomit-frame-pointer -DLUAJIT_ENABLE_CHECKHOOK") };
    if let Ok(jobs) = std::env::var("CARGO_MAKEFLAGS") {
        // SAFETY: as above. Make shares cargo's job server.
        unsafe { std::env::set_var("MAKEFLAGS", jobs) };
    }
    let compiler = compiler_with_changes();
    // SAFETY: as above.
    unsafe { std::env::set_var("STATIC_CC", compiler) };
    let built = luajit_src::Build::new().lua52compat(true).debug(false).build();
    println!("cargo:rustc-link-search=native={}", built.lib_dir().display());
    println!("cargo:rustc-link-lib=static:+whole-archive=luajit");
    // LuaRocks' C modules find the Lua API in the executable.
    println!(
        "cargo:rustc-link-arg-bins=-Wl,--export-dynamic-symbol=lua_*,--export-dynamic-symbol=luaL_*"
    );
}

/// Writes the script and answers the command that runs it.
fn compiler_with_changes() -> String {
    let folder = std::env::var("OUT_DIR").expect("cargo says where build output goes");
    let script = Path::new(&folder).join("compile");
    let compiler = cc::Build::new().get_compiler();
    let changed = format!(
        "[ \"$(grep -cF '{MATCHER_CHECK}' lib_string.c)\" = 1 ] || {{ echo 'lib_string.c has changed' >&2; exit 1; }}
    sed -i 's/{MATCHER_CHECK}/{MATCHER_CHECK_COUNTED}/' lib_string.c"
    );
    // Make asks the compiler about lj_arch.h before it does anything else.
    let cleared = format!(
        "[ \"$(grep -cF '{C_RESULT}' vm_x64.dasc)\" = 1 ] || {{ echo 'vm_x64.dasc has changed' >&2; exit 1; }}
    sed -i 's#{C_RESULT}#{C_RESULT_CLEARED}#' vm_x64.dasc"
    );
    let text = format!(
        "#!/bin/sh
case \" $* \" in
  *' lj_arch.h '*) grep -qF '{C_RESULT_CLEARED}' vm_x64.dasc || {{
    {cleared}
  }} ;;
  *' lib_string.c '*) grep -qF hookcount lib_string.c || {{
    {changed}
  }} ;;
esac
exec {} {} \"$@\"
",
        compiler.path().display(),
        compiler.cflags_env().to_string_lossy(),
    );
    std::fs::write(&script, text).expect("the output folder can be written");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("the script is ours");
    script.display().to_string()
}
