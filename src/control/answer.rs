//! The answer to a call of the manager: given at once or later, exactly once.
//!
//! Must not know: who waits for it.

use serde_json::Value;

use crate::error::OperatorError;

/// What a verb comes to.
pub type Outcome = Result<Value, OperatorError>;

/// Takes the outcome of one call, and what it puts out on the way there. Never dropped silently: a call that is
/// forgotten answers with an error.
pub struct Answer {
    done: Option<Box<dyn FnOnce(Outcome)>>,
    output: Option<Box<dyn FnMut(Value)>>,
}

impl Answer {
    /// Calls `done` with the outcome. `done` runs inside the manager: it must only note the outcome.
    pub fn new(done: impl FnOnce(Outcome) + 'static) -> Answer {
        Answer { done: Some(Box::new(done)), output: None }
    }

    /// An answer that nobody waits for.
    pub fn nobody() -> Answer {
        Answer { done: None, output: None }
    }

    /// Also takes what an app's command prints while it runs.
    pub fn with_output(mut self, output: impl FnMut(Value) + 'static) -> Answer {
        self.output = Some(Box::new(output));
        self
    }

    /// Passes on one piece of output.
    pub fn put_out(&mut self, frame: Value) {
        if let Some(output) = &mut self.output {
            output(frame);
        }
    }

    /// Answers.
    pub fn give(mut self, outcome: Outcome) {
        if let Some(done) = self.done.take() {
            done(outcome);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(Err(OperatorError::failed("the daemon gave up on this request")));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_comes_exactly_once() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let into = |seen: &Rc<RefCell<Vec<Outcome>>>| {
            let seen = Rc::clone(seen);
            Answer::new(move |outcome| seen.borrow_mut().push(outcome))
        };
        into(&seen).give(Ok(json!(1)));
        drop(into(&seen));
        Answer::nobody().give(Ok(json!(2)));
        assert_eq!(seen.borrow().len(), 2);
        assert_eq!(seen.borrow()[0], Ok(json!(1)));
        assert!(seen.borrow()[1].is_err());
    }
}
