//! Takes the types out of TypeScript, as far as configuration files have them.
//!
//! Job: whole statements (`import type`, `interface`, `type`), `as X`, `satisfies X`, and the type of a variable. Every
//! character that goes is replaced by a space, so places stay right. What is left over is for the engine to complain
//! about, and for `--node` to do.

/// JavaScript, of the same length in lines and columns.
pub(super) fn types(text: &str) -> String {
    let mut out: Vec<char> = text.chars().collect();
    let code = code(&out);
    let mut at = 0;
    let mut statement_begins = true;
    while at < out.len() {
        if !matches!(code.get(at), Some(true)) {
            at += 1;
            continue;
        }
        let end = if starts_word(&out, at) {
            let end = word_end(&out, at);
            let word: String = out.get(at..end).unwrap_or_default().iter().collect();
            after_word(&mut out, &code, at, end, &word, statement_begins)
        } else {
            at + 1
        };
        let character = out.get(at).copied().unwrap_or(' ');
        statement_begins = match character {
            ';' | '\n' | '}' => true,
            _ if character.is_whitespace() => statement_begins,
            _ => false,
        };
        at = end.max(at + 1);
    }
    out.into_iter().collect()
}

/// Which characters are code: no comment, no text.
fn code(text: &[char]) -> Vec<bool> {
    let mut code = vec![true; text.len()];
    let mut at = 0;
    while let Some(character) = text.get(at) {
        let end = match (character, text.get(at + 1)) {
            ('/', Some('/')) => find(text, at, &['\n']),
            ('/', Some('*')) => find(text, at + 2, &['*', '/']) + 2,
            ('"' | '\'' | '`', _) => closing(text, at, *character),
            _ => {
                at += 1;
                continue;
            }
        };
        let end = end.min(text.len());
        code.get_mut(at..end).unwrap_or_default().fill(false);
        at = end.max(at + 1);
    }
    code
}

fn find(text: &[char], from: usize, what: &[char]) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let at = rest.windows(what.len()).position(|window| window == what);
    at.map_or(text.len(), |at| from + at)
}

fn closing(text: &[char], from: usize, quote: char) -> usize {
    let mut at = from + 1;
    while let Some(character) = text.get(at) {
        match character {
            '\\' => at += 1,
            _ if *character == quote => return at + 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '$')
}

fn starts_word(text: &[char], at: usize) -> bool {
    let here = text.get(at).is_some_and(|c| is_word(*c));
    let before = at.checked_sub(1).and_then(|at| text.get(at));
    here && before.is_none_or(|c| !is_word(*c) && *c != '.')
}

fn word_end(text: &[char], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|c| !is_word(*c)).unwrap_or(rest.len())
}

/// Does what a word asks for; where to go on.
fn after_word(out: &mut [char], code: &[bool], at: usize, end: usize, word: &str, begins: bool) -> usize {
    let next = skip_space(out, end);
    match word {
        "as" | "satisfies"
            if out.get(next).is_some_and(|c| is_word(*c) || *c == '{') && after_value(out, at) =>
        {
            let stop = type_end(out, code, next);
            blank(out, at, stop);
            stop
        }
        "import" | "export" if begins && is_at(out, next, "type") && word == "import" => {
            let stop = find(out, at, &['\n']);
            blank(out, at, stop);
            stop
        }
        "export" if begins && (is_at(out, next, "interface") || is_at(out, next, "type")) => {
            let stop = declaration_end(out, code, next);
            blank(out, at, stop);
            stop
        }
        "interface" | "type" if begins && out.get(next).is_some_and(|c| c.is_alphabetic()) => {
            let stop = declaration_end(out, code, next);
            blank(out, at, stop);
            stop
        }
        "const" | "let" | "var" => {
            let name = word_end(out, next);
            let colon = skip_space(out, name);
            if name > next && out.get(colon) == Some(&':') {
                let stop = type_end(out, code, colon + 1);
                blank(out, colon, stop);
                return stop;
            }
            name
        }
        _ => end,
    }
}

/// `as` is a word of TypeScript only behind a value, and not in `import * as x`, `{ a as b }`.
fn after_value(out: &[char], at: usize) -> bool {
    let line_begin = out
        .get(..at)
        .unwrap_or_default()
        .iter()
        .rposition(|c| *c == '\n')
        .map_or(0, |at| at + 1);
    let line: String = out.get(line_begin..at).unwrap_or_default().iter().collect();
    let line = line.trim();
    let behind = line.chars().next_back();
    !line.starts_with("import")
        && behind.is_some_and(|c| is_word(c) || matches!(c, ']' | '}' | ')' | '\'' | '"' | '`'))
}

fn skip_space(text: &[char], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|c| !c.is_whitespace()).unwrap_or(rest.len())
}

fn is_at(text: &[char], at: usize, word: &str) -> bool {
    let end = word_end(text, at);
    text.get(at..end)
        .is_some_and(|found| found.iter().collect::<String>() == word)
}

/// The end of a type: where, outside of brackets, something comes that is none of it.
fn type_end(text: &[char], code: &[bool], from: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = from;
    let mut seen = false;
    while let Some(character) = text.get(at) {
        let is_code = matches!(code.get(at), Some(true));
        match character {
            '<' | '[' | '{' | '(' if is_code => depth += 1,
            '>' | ']' | '}' | ')' if is_code => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return at,
            },
            '=' | ';' | ',' if is_code && depth == 0 => return at,
            '\n' if depth == 0 && seen => return at,
            _ => {}
        }
        seen |= !character.is_whitespace();
        at += 1;
    }
    at
}

/// The end of `interface X { … }` or `type X = …`.
fn declaration_end(text: &[char], code: &[bool], from: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = from;
    while let Some(character) = text.get(at) {
        if matches!(code.get(at), Some(true)) {
            match character {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth = depth.saturating_sub(1),
                ';' | '\n' if depth == 0 => return at,
                _ => {}
            }
        }
        at += 1;
    }
    at
}

fn blank(out: &mut [char], from: usize, to: usize) {
    for character in out.get_mut(from..to).unwrap_or_default() {
        if *character != '\n' {
            *character = ' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn squeezed(text: &str) -> String {
        types(text).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_configuration_files_have() {
        for (typed, plain) in [
            (
                "import type { A } from 'a';\nexport default {}",
                "export default {}",
            ),
            ("interface App {\n  name: string;\n}\nconst a = 1", "const a = 1"),
            ("type Apps = App[];\nconst a = 1", "; const a = 1"),
            ("const a: App[] = []", "const a = []"),
            (
                "const a: Record<string, { b: number }> = { c: 1 }",
                "const a = { c: 1 }",
            ),
            ("const a = { b: 1 } as const;", "const a = { b: 1 } ;"),
            (
                "export default { apps: [] } satisfies Config;",
                "export default { apps: [] } ;",
            ),
            (
                "export default {\n} satisfies Config<{ a: 1 }>\n",
                "export default { }",
            ),
            ("f(x as string, 'y as string')", "f(x , 'y as string')"),
        ] {
            assert_eq!(squeezed(typed), plain, "{typed}");
        }
    }

    #[test]
    fn javascript_stays_as_it_is() {
        for text in [
            "import * as path from 'path';\nconst { a: b } = c;\nlet d = e ? f : g;\n",
            "import { a as b } from 'c';\nexport default { type: 'module', as: 1, interface: 2 };\n",
            "const url = 'http://x'; // const a: b = c\n/* type X = y */\n",
        ] {
            assert_eq!(types(text), text);
        }
    }

    #[test]
    fn places_stay() {
        let text = "const a: A = 1;\ntype B = {\n  c: 1;\n};\nboom()\n";
        let lines: Vec<usize> = types(text).lines().map(str::len).collect();
        assert_eq!(lines, text.lines().map(str::len).collect::<Vec<_>>());
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(text in "(const|type|as|import|[:{}<>=;'`/* \n])[a-z:{}<>=;'`/*\\\\ \n]{0,60}") {
            proptest::prop_assert_eq!(types(&text).chars().count(), text.chars().count());
        }
    }
}
