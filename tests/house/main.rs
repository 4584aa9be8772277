//! The house rules that a compiler doesn't check: which layer may use which, and how files look.

mod layers;
mod source;
mod tidy;
