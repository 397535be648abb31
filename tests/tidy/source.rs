//! Rust source as the rules see it: files, tokens, and the paths written in them.

/// A file: its path from the repository's root, with `/`, and its text.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    pub(crate) fn in_engine(&self) -> bool {
        self.path.starts_with("src/") && !self.path.starts_with("src/bin/")
    }

    /// The text up to the tests at its end; nothing if the file is all tests.
    pub(crate) fn code(&self) -> &str {
        if self.path.ends_with("/tests.rs") || self.path.contains("/tests/") {
            return "";
        }
        let mut at = 0;
        for line in self.text.split_inclusive('\n') {
            let opens_tests = line.starts_with("#[cfg(test)]")
                || line.starts_with("#[cfg(all(test,")
                || line.starts_with("#[cfg(all(test)");
            let inline = self.text.get(at..).is_some_and(|rest| {
                let item = rest.lines().find(|line| !line.starts_with("#["));
                item.is_some_and(|item| item.starts_with("mod ") && item.ends_with('{'))
            });
            if opens_tests && inline {
                break;
            }
            at += line.len();
        }
        self.text.get(..at).unwrap_or_default()
    }

    /// The module that the file is: `src/epoch/guard.rs` is `["epoch", "guard"]`.
    pub(crate) fn module(&self) -> Vec<&str> {
        let path = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let path = path.strip_suffix(".rs").unwrap_or(path);
        let path = path.strip_suffix("/mod").unwrap_or(path);
        if path == "lib" { Vec::new() } else { path.split('/').collect() }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Token<'t> {
    pub(crate) text: &'t str,
    pub(crate) line: usize,
}

/// Names, `::` and single signs; comments, strings, characters and lifetimes are left out.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while !rest.is_empty() {
        let silent = silent_len(rest);
        let len = silent.max(if rest.starts_with("::") { 2 } else { word_len(rest) });
        let (token, tail) = rest.split_at(if len == 0 { first_len(rest) } else { len });
        if silent == 0 {
            tokens.push(Token { text: token, line });
        }
        line += token.matches('\n').count();
        rest = tail;
    }
    tokens
}

fn first_len(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

pub(crate) fn word_len(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// Length of the blank, comment, string, character or lifetime that `text` begins with, or 0.
fn silent_len(text: &str) -> usize {
    if text.starts_with(char::is_whitespace) {
        return first_len(text);
    }
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return text.find("*/").map_or(text.len(), |end| end + 2);
    }
    let body = text.strip_prefix(['b', 'c']).unwrap_or(text);
    let prefix = text.len() - body.len();
    if let Some(raw) = body.strip_prefix('r') {
        let hashes = raw.find(|c| c != '#').unwrap_or(0);
        if raw.get(hashes..).is_some_and(|raw| raw.starts_with('"')) {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = prefix + 1 + hashes + 1;
            let inside = text.get(open..).unwrap_or_default();
            return inside.find(&close).map_or(text.len(), |end| open + end + close.len());
        }
    }
    match body.chars().next() {
        Some('"') => prefix + quoted_len(body, '"'),
        Some('\'') => match (body.chars().nth(1), body.chars().nth(2)) {
            (Some('\\'), _) | (_, Some('\'')) => prefix + quoted_len(body, '\''),
            _ => prefix + 1 + word_len(body.get(1..).unwrap_or_default()),
        },
        _ => 0,
    }
}

fn quoted_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A path written in a file: its full names, its line, and whether it is a `pub use`.
pub(crate) struct Named<'t> {
    pub(crate) path: Vec<&'t str>,
    pub(crate) line: usize,
    pub(crate) exported: bool,
}

/// Every path whose first name `roots` accepts, groups spelt out, `super` and `self`
/// resolved from `module`. A `super` that leaves the crate gives an empty path.
pub(crate) fn named<'t>(
    tokens: &[Token<'t>],
    module: &[&'t str],
    roots: &dyn Fn(&str) -> bool,
) -> Vec<Named<'t>> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut inline: Vec<(usize, &str)> = Vec::new();
    let (mut depth, mut exported, mut at) = (0_usize, false, 0);
    let mut found = Vec::new();
    while let Some(token) = tokens.get(at) {
        match token.text {
            "{" => {
                depth += 1;
                if at >= 2 && text(at - 2) == "mod" {
                    inline.push((depth, text(at - 1)));
                }
            }
            "}" => {
                inline.retain(|&(opened, _)| opened < depth);
                depth = depth.saturating_sub(1);
            }
            "use" => exported = at > 0 && matches!(text(at - 1), "pub" | ")"),
            ";" => exported = false,
            _ => {}
        }
        let fresh = at == 0 || text(at - 1) != "::";
        let begins =
            text(at + 1) == "::" || (text(at + 1) == ";" && text(at.wrapping_sub(1)) == "use");
        if !(fresh && begins && roots(token.text)) {
            at += 1;
            continue;
        }
        let mut paths = Vec::new();
        spell_out(tokens, &mut at, Vec::new(), &mut paths);
        let here: Vec<&str> =
            module.iter().copied().chain(inline.iter().map(|&(_, name)| name)).collect();
        for path in paths {
            found.push(Named { path: resolve(&here, path), line: token.line, exported });
        }
    }
    found
}

fn spell_out<'t>(
    tokens: &[Token<'t>],
    at: &mut usize,
    mut path: Vec<&'t str>,
    paths: &mut Vec<Vec<&'t str>>,
) {
    while let Some(token) = tokens.get(*at) {
        if token.text == "{" {
            *at += 1;
            while tokens.get(*at).is_some_and(|token| token.text != "}") {
                let before = *at;
                spell_out(tokens, at, path.clone(), paths);
                // Skips `as name` and the comma.
                while *at == before || tokens.get(*at).is_some_and(|t| !"{,}".contains(t.text)) {
                    *at += 1;
                }
                *at += usize::from(tokens.get(*at).is_some_and(|token| token.text == ","));
            }
            *at += 1;
            return;
        }
        if token.text == "*" || word_len(token.text) > 0 {
            path.push(token.text);
            *at += 1;
        }
        if tokens.get(*at).is_none_or(|token| token.text != "::") {
            break;
        }
        *at += 1;
    }
    paths.push(path);
}

fn resolve<'t>(here: &[&'t str], path: Vec<&'t str>) -> Vec<&'t str> {
    let relative = matches!(path.first(), Some(&("self" | "super")));
    let mut full = if relative { here.to_vec() } else { Vec::new() };
    for name in path {
        match name {
            "self" => {}
            "super" => drop(full.pop()),
            name => full.push(name),
        }
    }
    full
}
