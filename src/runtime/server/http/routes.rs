//! A server's routes: patterns such as `GET /users/:id`, and what answers them.
//!
//! A pattern's parts are literal, `:name` for one part of the path, or `*name` at its end for all the rest; a literal
//! is tried before a name, a name before the rest. Constants are answered here, functions by the app: a function's
//! number is its pattern's place among all patterns in the order of their bytes, which is how the app numbers them too.
//! Must not know: connections, how answers are written.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::limits::{HTTP_ROUTE_PARTS_MAX, HTTP_ROUTES_MAX};
use crate::proto::http1::{is_token, is_value};

/// What answers a route.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A function of the app's. `stream`: it reads the body piece by piece.
    Function { stream: bool },
    /// Always the same.
    Constant(Constant),
}

/// An answer that is data.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// Its status.
    pub status: u16,
    /// Its field lines.
    pub fields: Vec<u8>,
    /// Its body.
    pub body: Vec<u8>,
}

/// All routes of a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Routes {
    source: Map<String, Value>,
    answers: Vec<Answer>,
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Node {
    literals: BTreeMap<Vec<u8>, usize>,
    name: Option<usize>,
    /// Routes of a pattern that ends here, by method; an empty method is any.
    here: Vec<(Vec<u8>, u32)>,
    /// Routes of a pattern that takes all the rest from here.
    rest: Vec<(Vec<u8>, u32)>,
}

/// The parts of a path that a pattern's names stand for: start and length in the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// In the order of the pattern.
    pub spans: [(u16, u16); HTTP_ROUTE_PARTS_MAX],
    /// How many.
    pub count: usize,
}

impl Parameters {
    fn push(&mut self, start: usize, len: usize) {
        self.spans[self.count] = (start as u16, len as u16);
        self.count += 1;
    }
}

/// What a path and a method lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// This route.
    Route(u32),
    /// There are routes for the path, but not for the method.
    OtherMethods,
    /// Nothing.
    Nothing,
}

impl Routes {
    /// Reads the table `routes` of a definition.
    ///
    /// # Errors
    /// The pattern or answer that is wrong, and how.
    pub fn parse(source: &Map<String, Value>) -> Result<Routes, String> {
        if source.len() > HTTP_ROUTES_MAX {
            return Err(format!("at most {HTTP_ROUTES_MAX} are possible, got {}", source.len()));
        }
        let nodes = vec![Node::default()];
        let mut routes = Routes { source: source.clone(), answers: Vec::new(), nodes };
        let mut sorted: Vec<(&String, &Value)> = source.iter().collect();
        sorted.sort_by_key(|(pattern, _)| pattern.as_bytes());
        for (pattern, value) in sorted {
            let answer =
                read_answer(value).map_err(|problem| format!("\"{pattern}\": {problem}"))?;
            routes.add(pattern).map_err(|problem| format!("\"{pattern}\": {problem}"))?;
            routes.answers.push(answer);
        }
        Ok(routes)
    }

    /// The table as it was given.
    pub fn source(&self) -> &Map<String, Value> {
        &self.source
    }

    /// What answers a route.
    pub fn answer(&self, route: u32) -> &Answer {
        &self.answers[route as usize]
    }

    fn add(&mut self, pattern: &str) -> Result<(), String> {
        let (method, path) = pattern.split_once(' ').unwrap_or(("", pattern));
        if !method.bytes().all(is_token) || !path.starts_with('/') {
            return Err("expected \"METHOD /path\" or \"/path\"".to_owned());
        }
        if path.contains('?') || !path.bytes().all(|byte| byte > b' ' && byte < 0x7f) {
            return Err("a pattern is a path of visible ASCII, without a query".to_owned());
        }
        let route = self.answers.len() as u32;
        let parts: Vec<&str> = path[1..].split('/').collect();
        if parts.iter().filter(|part| part.starts_with([':', '*'])).count() > HTTP_ROUTE_PARTS_MAX {
            return Err(format!("at most {HTTP_ROUTE_PARTS_MAX} names are possible"));
        }
        let mut node = 0;
        for (index, part) in parts.iter().enumerate() {
            if part.starts_with('*') {
                if index + 1 != parts.len() {
                    return Err("*name stands for all the rest: it must come last".to_owned());
                }
                return self.claim(node, true, method, route);
            }
            node = self.step(node, part);
        }
        self.claim(node, false, method, route)
    }

    fn step(&mut self, node: usize, part: &str) -> usize {
        let new = self.nodes.len();
        let next = if part.starts_with(':') {
            *self.nodes[node].name.get_or_insert(new)
        } else {
            *self.nodes[node].literals.entry(part.as_bytes().to_vec()).or_insert(new)
        };
        if next == new {
            self.nodes.push(Node::default());
        }
        next
    }

    fn claim(&mut self, node: usize, rest: bool, method: &str, route: u32) -> Result<(), String> {
        let node = &mut self.nodes[node];
        let list = if rest { &mut node.rest } else { &mut node.here };
        if list.iter().any(|(known, _)| known == method.as_bytes()) {
            return Err("another pattern says the same".to_owned());
        }
        list.push((method.as_bytes().to_vec(), route));
        Ok(())
    }

    /// The route for a request, and what the names of its pattern stand for.
    pub fn find(&self, method: &[u8], path: &[u8], parameters: &mut Parameters) -> Found {
        parameters.count = 0;
        match path {
            [b'/', ..] => self.descend(0, method, path, 1, parameters),
            _ => Found::Nothing,
        }
    }

    /// `start`: where in the path the next part begins; behind the path's end if there is none.
    fn descend(
        &self,
        node: usize,
        method: &[u8],
        path: &[u8],
        start: usize,
        parameters: &mut Parameters,
    ) -> Found {
        let node = &self.nodes[node];
        if start > path.len() {
            return choose(&node.here, method);
        }
        let len = path[start..].iter().position(|byte| *byte == b'/').unwrap_or(path.len() - start);
        let count = parameters.count;
        let mut best = Found::Nothing;
        if let Some(&next) = node.literals.get(&path[start..start + len]) {
            best = self.descend(next, method, path, start + len + 1, parameters);
        }
        if let (Some(next), true, false) = (node.name, len > 0, matches!(best, Found::Route(_))) {
            parameters.count = count;
            parameters.push(start, len);
            best = better(best, self.descend(next, method, path, start + len + 1, parameters));
        }
        if !matches!(best, Found::Route(_)) && !node.rest.is_empty() {
            parameters.count = count;
            parameters.push(start, path.len() - start);
            best = better(best, choose(&node.rest, method));
        }
        best
    }

    /// The methods that a path has routes for, as `Allow` names them.
    pub fn allowed(&self, path: &[u8]) -> String {
        const KNOWN: [&str; 6] = ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"];
        let mut parameters = Parameters::default();
        let mut has = |method: &str| {
            matches!(self.find(method.as_bytes(), path, &mut parameters), Found::Route(_))
        };
        let mut methods: Vec<&str> = KNOWN.into_iter().filter(|method| has(method)).collect();
        methods.push("OPTIONS");
        methods.join(", ")
    }
}

fn better(one: Found, other: Found) -> Found {
    if other == Found::Nothing { one } else { other }
}

/// The route of a method: its own, for HEAD that of GET, or that of any method.
fn choose(list: &[(Vec<u8>, u32)], method: &[u8]) -> Found {
    let of =
        |wanted: &[u8]| list.iter().find(|(known, _)| known == wanted).map(|(_, route)| *route);
    let get = || if method == b"HEAD" { of(b"GET") } else { None };
    match of(method).or_else(get).or_else(|| of(b"")) {
        Some(route) => Found::Route(route),
        None if list.is_empty() => Found::Nothing,
        None => Found::OtherMethods,
    }
}

const FUNCTION: &str = "<function>";
/// The type of an answer that is text.
pub const TEXT_FIELD: &[u8] = b"Content-Type: text/plain; charset=utf-8\r\n";

fn read_answer(value: &Value) -> Result<Answer, String> {
    match value {
        Value::String(text) if text == FUNCTION => Ok(Answer::Function { stream: false }),
        Value::String(text) => Ok(Answer::Constant(Constant {
            status: 200,
            fields: TEXT_FIELD.to_vec(),
            body: text.clone().into_bytes(),
        })),
        Value::Object(table) if table.get("handler").is_some_and(|it| it == FUNCTION) => {
            let stream = table.get("stream").and_then(Value::as_bool).unwrap_or(false);
            Ok(Answer::Function { stream })
        }
        Value::Object(table) => read_constant(table).map(Answer::Constant),
        _ => Err("expected a function, a text or a table with status, headers, body".to_owned()),
    }
}

fn read_constant(table: &Map<String, Value>) -> Result<Constant, String> {
    let mut constant = Constant { status: 200, fields: Vec::new(), body: Vec::new() };
    let mut content_type: &[u8] = b"";
    for (key, value) in table {
        match (key.as_str(), value) {
            ("status", Value::Number(number)) => {
                let status = number.as_u64().filter(|status| (200..600).contains(status));
                constant.status = status.ok_or("status: expected 200 to 599")? as u16;
            }
            ("body", Value::String(text)) => {
                constant.body = text.clone().into_bytes();
                content_type = TEXT_FIELD;
            }
            ("html", Value::String(text)) => {
                constant.body = text.clone().into_bytes();
                content_type = b"Content-Type: text/html; charset=utf-8\r\n";
            }
            ("json", value) => {
                constant.body = value.to_string().into_bytes();
                content_type = b"Content-Type: application/json\r\n";
            }
            ("headers", Value::Object(headers)) => {
                for (name, value) in headers {
                    add_field(&mut constant.fields, name, value)?;
                }
            }
            (other, _) => {
                return Err(format!("{other}: expected status, headers, body, html or json"));
            }
        }
    }
    let has_type = table.get("headers").and_then(Value::as_object).is_some_and(|headers| {
        headers.keys().any(|name| name.eq_ignore_ascii_case("content-type"))
    });
    if !has_type {
        constant.fields.extend_from_slice(content_type);
    }
    Ok(constant)
}

fn add_field(out: &mut Vec<u8>, name: &str, value: &Value) -> Result<(), String> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let is_good = !name.is_empty() && name.bytes().all(is_token) && text.bytes().all(is_value);
    if !is_good {
        return Err(format!(
            "headers: \"{name}\" or its value has characters that may not be there"
        ));
    }
    out.extend_from_slice(format!("{name}: {text}\r\n").as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(patterns: &[&str]) -> Result<Routes, String> {
        let table = patterns.iter().map(|it| ((*it).to_owned(), Value::from("x"))).collect();
        Routes::parse(&table)
    }

    #[test]
    fn the_most_literal_pattern_wins() {
        let mut patterns = [
            "GET /",
            "GET /u/:id",
            "GET /u/me",
            "POST /u/:id",
            "GET /u/:id/posts/:post",
            "/any",
            "GET /files/*path",
            "GET /files/list",
            "PUT /u/me",
            "GET /*all",
        ];
        patterns.sort_unstable();
        let routes = routes(&patterns).unwrap();
        for (request, expected) in [
            ("GET /", "GET /"),
            ("HEAD /", "GET /"),
            ("GET /u/7", "GET /u/:id 7"),
            ("GET /u/me", "GET /u/me"),
            ("POST /u/me", "POST /u/:id me"),
            ("PUT /u/me", "PUT /u/me"),
            ("DELETE /u/me", "-"),
            ("GET /u/7/posts/9", "GET /u/:id/posts/:post 7 9"),
            ("GET /u/7/posts", "GET /*all u/7/posts"),
            ("GET /u//posts/9", "GET /*all u//posts/9"),
            ("PATCH /any", "/any"),
            ("GET /files/list", "GET /files/list"),
            ("GET /files/list/x", "GET /files/*path list/x"),
            ("GET /files/", "GET /files/*path "),
            ("GET /files", "GET /*all files"),
            ("POST /nowhere", "-"),
            ("OPTIONS *", ""),
        ] {
            let (method, path) = request.split_once(' ').unwrap();
            let mut parameters = Parameters::default();
            let found = match routes.find(method.as_bytes(), path.as_bytes(), &mut parameters) {
                Found::Route(route) => {
                    let mut line = patterns[route as usize].to_owned();
                    for (start, len) in &parameters.spans[..parameters.count] {
                        line.push(' ');
                        line.push_str(&path[usize::from(*start)..usize::from(start + len)]);
                    }
                    line
                }
                Found::OtherMethods => "-".to_owned(),
                Found::Nothing => String::new(),
            };
            assert_eq!(found, expected, "{request}");
        }
        assert_eq!(routes.allowed(b"/u/me"), "GET, HEAD, POST, PUT, OPTIONS");
    }

    #[test]
    fn wrong_patterns_say_what_is_wrong() {
        for (pattern, expected) in [
            ("GET", "expected \"METHOD /path\""),
            ("u/:id", "expected \"METHOD /path\""),
            ("GET  /x", "expected \"METHOD /path\""),
            ("GET /a?b", "without a query"),
            ("GET /*all/x", "must come last"),
            ("GET /caf\u{e9}", "visible ASCII"),
        ] {
            let problem = routes(&[pattern]).unwrap_err();
            assert!(problem.contains(expected) && problem.contains(pattern), "{problem}");
        }
        assert!(routes(&["GET /:a", "GET /:b"]).unwrap_err().contains("says the same"));
    }

    #[test]
    fn constants_are_checked() {
        let parse = |value: Value| {
            Routes::parse(&Map::from_iter([("/".to_owned(), value)]))
                .map(|it| it.answers[0].clone())
        };
        let Ok(Answer::Constant(constant)) =
            parse(serde_json::json!({"status": 201, "json": [1], "headers": {"X-A": "b"}}))
        else {
            panic!("a constant")
        };
        assert_eq!((constant.status, &constant.body[..]), (201, &b"[1]"[..]));
        let fields = String::from_utf8(constant.fields).unwrap();
        assert_eq!(fields, "X-A: b\r\nContent-Type: application/json\r\n");
        for (value, expected) in [
            (serde_json::json!({"status": 99}), "200 to 599"),
            (serde_json::json!({"headers": {"X": "a\r\nSet-Cookie: b"}}), "may not be there"),
            (serde_json::json!({"headers": {"X Y": "a"}}), "may not be there"),
            (serde_json::json!({"bdy": "x"}), "bdy: expected status"),
            (serde_json::json!(7), "expected a function"),
        ] {
            assert!(parse(value.clone()).unwrap_err().contains(expected), "{value}");
        }
        let function = serde_json::json!({"stream": true, "handler": "<function>"});
        assert_eq!(parse(function), Ok(Answer::Function { stream: true }));
    }
}
