//! A Lua state's stack as methods, for the C functions of the store VM.
//!
//! What allocates in Lua may raise ("not enough memory"), which unwinds through the caller's frames without mlua's help:
//! such methods are for functions that Lua called, or for protected calls, and their callers own nothing that needs a
//! destructor. Must not know: what is converted.
#![allow(unsafe_code, reason = "the raw Lua interface, one call a method")]

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use mlua_sys as lua;
use mlua_sys::lua_State;

/// A Lua state that is entered by this thread; `Copy`, so that no destructor is skipped by an error.
#[derive(Clone, Copy)]
pub(super) struct Stack(*mut lua_State);

/// The types that conversions tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Nil,
    Boolean,
    Number,
    String,
    Table,
    /// A pointer without a value behind: `cjson.null`.
    Light,
    /// Anything else.
    Other,
}

/// A C function as Lua calls it.
pub(super) type Function = unsafe extern "C-unwind" fn(*mut lua_State) -> c_int;

impl Stack {
    /// # Safety
    /// `state` is a Lua state in use by this thread only, as long as the value lives.
    pub(super) unsafe fn new(state: *mut lua_State) -> Stack {
        Stack(state)
    }

    pub(super) fn state(self) -> *mut lua_State {
        self.0
    }

    pub(super) fn top(self) -> c_int {
        // SAFETY: the state is valid (`new`).
        unsafe { lua::lua_gettop(self.0) }
    }

    pub(super) fn set_top(self, top: c_int) {
        // SAFETY: as above.
        unsafe { lua::lua_settop(self.0, top) }
    }

    pub(super) fn pop(self, count: c_int) {
        self.set_top(-count - 1);
    }

    /// Room for so many values more; false if there is none.
    pub(super) fn reserve(self, count: c_int) -> bool {
        // SAFETY: as above.
        unsafe { lua::lua_checkstack(self.0, count) != 0 }
    }

    pub(super) fn kind(self, index: c_int) -> Kind {
        // SAFETY: as above; an index past the top is "none".
        match unsafe { lua::lua_type(self.0, index) } {
            lua::LUA_TNIL | lua::LUA_TNONE => Kind::Nil,
            lua::LUA_TBOOLEAN => Kind::Boolean,
            lua::LUA_TNUMBER => Kind::Number,
            lua::LUA_TSTRING => Kind::String,
            lua::LUA_TTABLE => Kind::Table,
            lua::LUA_TLIGHTUSERDATA => Kind::Light,
            _ => Kind::Other,
        }
    }

    /// The type's name for people.
    pub(super) fn type_name(self, index: c_int) -> &'static CStr {
        // SAFETY: as above.
        let kind = unsafe { lua::lua_type(self.0, index) };
        // SAFETY: as above.
        let name = unsafe { lua::lua_typename(self.0, kind) };
        // SAFETY: type names are constants of the library.
        unsafe { CStr::from_ptr(name) }
    }

    pub(super) fn boolean(self, index: c_int) -> bool {
        // SAFETY: as above.
        unsafe { lua::lua_toboolean(self.0, index) != 0 }
    }

    pub(super) fn number(self, index: c_int) -> f64 {
        // SAFETY: as above.
        unsafe { lua::lua_tonumber(self.0, index) }
    }

    /// A string's bytes; valid while the value is on the stack or referenced elsewhere. Nothing for other types.
    pub(super) fn bytes<'a>(self, index: c_int) -> Option<&'a [u8]> {
        (self.kind(index) == Kind::String).then(|| self.text(index))
    }

    /// The same for a value known to be a string, or a number, which becomes a string in place (that may raise).
    pub(super) fn text<'a>(self, index: c_int) -> &'a [u8] {
        let mut len = 0;
        // SAFETY: as above.
        let bytes = unsafe { lua::lua_tolstring(self.0, index, &mut len) };
        if bytes.is_null() {
            return &[];
        }
        // SAFETY: `len` bytes of a string that the caller keeps alive.
        unsafe { std::slice::from_raw_parts(bytes.cast(), len) }
    }

    /// What a light userdata points to.
    pub(super) fn pointer(self, index: c_int) -> *mut c_void {
        // SAFETY: as above.
        unsafe { lua::lua_touserdata(self.0, index) }
    }

    pub(super) fn push_nil(self) {
        // SAFETY: as above; callers keep within LUA_MINSTACK or `reserve`.
        unsafe { lua::lua_pushnil(self.0) }
    }

    pub(super) fn push_boolean(self, value: bool) {
        // SAFETY: as above.
        unsafe { lua::lua_pushboolean(self.0, c_int::from(value)) }
    }

    pub(super) fn push_number(self, value: f64) {
        // SAFETY: as above.
        unsafe { lua::lua_pushnumber(self.0, value) }
    }

    /// May raise.
    pub(super) fn push_bytes(self, bytes: &[u8]) {
        // SAFETY: as above; the bytes are copied.
        unsafe { lua::lua_pushlstring_(self.0, bytes.as_ptr().cast(), bytes.len()) }
    }

    /// `cjson.null`.
    pub(super) fn push_null(self) {
        // SAFETY: as above.
        unsafe { lua::lua_pushlightuserdata(self.0, ptr::null_mut()) }
    }

    pub(super) fn push_light(self, pointer: *mut c_void) {
        // SAFETY: as above.
        unsafe { lua::lua_pushlightuserdata(self.0, pointer) }
    }

    pub(super) fn push_value(self, index: c_int) {
        // SAFETY: as above.
        unsafe { lua::lua_pushvalue(self.0, index) }
    }

    /// A C function with one light userdata that it finds by [`Stack::upvalue`]. May raise.
    pub(super) fn push_function(self, function: Function, upvalue: *mut c_void) {
        self.push_light(upvalue);
        // SAFETY: as above; one value is on the stack.
        unsafe { lua::lua_pushcclosure(self.0, function, 1) }
    }

    /// The light userdata of the C function that runs.
    pub(super) fn upvalue(self) -> *mut c_void {
        self.pointer(lua::LUA_GLOBALSINDEX - 1)
    }

    /// May raise.
    pub(super) fn create_table(self, items: usize, fields: usize) {
        // SAFETY: as above.
        unsafe { lua::lua_createtable(self.0, items as c_int, fields as c_int) }
    }

    /// Replaces the key on top by its value in the table at `index`.
    pub(super) fn raw_get(self, index: c_int) {
        // SAFETY: as above; a table is there.
        unsafe { lua::lua_rawget_(self.0, index) }
    }

    pub(super) fn raw_get_index(self, index: c_int, item: c_int) {
        // SAFETY: as above; a table is there.
        unsafe { lua::lua_rawgeti_(self.0, index, item) }
    }

    /// Takes the value on top. May raise.
    pub(super) fn raw_set_index(self, index: c_int, item: c_int) {
        // SAFETY: as above; a table is there.
        unsafe { lua::lua_rawseti_(self.0, index, item) }
    }

    /// Takes key and value on top. May raise, also for a key that is nil or NaN.
    pub(super) fn raw_set(self, index: c_int) {
        // SAFETY: as above; a table is there.
        unsafe { lua::lua_rawset(self.0, index) }
    }

    /// Replaces the key on top by the next key and its value; false at the end, with the key gone.
    pub(super) fn next(self, index: c_int) -> bool {
        // SAFETY: as above; a table is there, and the key came from it.
        unsafe { lua::lua_next(self.0, index) != 0 }
    }

    /// Moves the value on top below the others from `index` on.
    pub(super) fn insert(self, index: c_int) {
        // SAFETY: as above.
        unsafe { lua::lua_insert(self.0, index) }
    }

    /// Keeps the value on top in the registry. May raise.
    pub(super) fn reference(self) -> c_int {
        // SAFETY: as above.
        unsafe { lua::luaL_ref(self.0, lua::LUA_REGISTRYINDEX) }
    }

    pub(super) fn push_reference(self, reference: c_int) {
        self.raw_get_index(lua::LUA_REGISTRYINDEX, reference);
    }

    pub(super) fn unreference(self, reference: c_int) {
        // SAFETY: as above; an unused reference does nothing.
        unsafe { lua::luaL_unref(self.0, lua::LUA_REGISTRYINDEX, reference) }
    }

    /// Raises the value on top. The caller's frames own nothing.
    pub(super) fn raise(self) -> ! {
        // SAFETY: as above.
        unsafe { lua::lua_error(self.0) }
    }

    /// Raises a text with the place of the caller in front.
    pub(super) fn raise_text(self, text: &[u8]) -> ! {
        // SAFETY: as above.
        unsafe { lua::luaL_where(self.0, 1) };
        self.push_bytes(text);
        // SAFETY: two strings are on the stack.
        unsafe { lua::lua_concat(self.0, 2) };
        self.raise()
    }

    /// Raises `bad argument #N to 'name' (text)`.
    pub(super) fn raise_argument(self, argument: c_int, text: &CStr) -> ! {
        // SAFETY: as above.
        unsafe { lua::luaL_argerror(self.0, argument, text.as_ptr()) };
        unreachable!("luaL_argerror doesn't return")
    }

    /// A number argument, or an error about it.
    pub(super) fn check_number(self, argument: c_int) -> f64 {
        // SAFETY: as above.
        unsafe { lua::luaL_checknumber(self.0, argument) }
    }

    /// A string argument (or a number's text), or an error about it.
    pub(super) fn check_bytes<'a>(self, argument: c_int) -> &'a [u8] {
        let mut len = 0;
        // SAFETY: as above.
        let bytes = unsafe { lua::luaL_checklstring(self.0, argument, &mut len) };
        // SAFETY: `len` bytes of an argument, which stays on the stack while the function runs.
        unsafe { std::slice::from_raw_parts(bytes.cast(), len) }
    }
}
