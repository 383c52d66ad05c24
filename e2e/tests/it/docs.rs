//! What the documents list is what the code has, both ways.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use reelmill_testkit::farm::binary;

/// Every setting stands in docs/CONFIG.md with the programs that read it. `--check-config` is the judge.
#[test]
fn docs_list_every_setting() {
    let mut listed = BTreeSet::new();
    let mut documented_names = BTreeSet::new();
    for cells in rows(&read("docs/CONFIG.md"), "REELMILL_") {
        documented_names.insert(cells[0].clone());
        for program in cells[2].split(", ") {
            listed.insert((program.to_owned(), cells[0].clone()));
        }
    }
    let mut read_by_servers = BTreeSet::new();
    for program in ["api", "worker", "scheduler"] {
        read_by_servers.extend(settings_of(program).into_iter().map(|name| (program.to_owned(), name)));
    }
    let listed_for_servers: BTreeSet<_> = listed
        .iter()
        .filter(|(program, name)| {
            ["api", "worker", "scheduler"].contains(&program.as_str())
                && !flags("shared/src/lifecycle.rs").contains(name)
        })
        .cloned()
        .collect();
    assert_eq!(listed_for_servers, read_by_servers);

    // Options that a variable sets as well.
    let mut options = flags("shared/src/lifecycle.rs");
    for file in sources(&["cli/src"]) {
        options.extend(flags(&file));
    }
    let missing: Vec<_> = options.difference(&documented_names).collect();
    assert!(missing.is_empty(), "docs/CONFIG.md lacks {missing:?}");
}

/// Every metric stands in docs/OPERATIONS.md, and no other does.
#[test]
fn docs_list_every_metric() {
    let listed: BTreeSet<String> =
        rows(&read("docs/OPERATIONS.md"), "reelmill_").into_iter().map(|cells| cells[0].clone()).collect();
    let mut made = BTreeSet::new();
    for file in sources(&["api/src", "worker/src", "scheduler/src", "shared/src"]) {
        // The cookie is the one other thing that is named like this.
        made.extend(quoted(&read(&file), "reelmill_").filter(|name| name != "reelmill_session"));
    }
    assert_eq!(listed, made);
}

/// The API's description tells what is on the wire by the names of its types: two of one name would be told as one.
#[test]
fn docs_schemas_have_names_of_their_own() {
    let mut seen = BTreeSet::new();
    for file in sources(&["api/src"]) {
        for line in read(&file).lines() {
            let Some(rest) =
                line.strip_prefix("pub(crate) struct ").or_else(|| line.strip_prefix("pub(crate) enum "))
            else {
                continue;
            };
            let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
            assert!(
                !name.ends_with("Dto") || seen.insert(name.clone()),
                "{name} is there twice, once in {file}"
            );
        }
    }
    assert!(seen.len() > 50, "{seen:?}");
}

/// Files that documents point at are there, and `item` in `file` is in that file.
#[test]
fn docs_point_at_what_is_there() {
    let mut found = 0;
    for document in [
        "README.md",
        "CONTRIBUTING.md",
        "docs/ARCHITECTURE.md",
        "docs/CONFIG.md",
        "docs/OPERATIONS.md",
        "docs/PROFILES.md",
        "docs/WEBHOOKS.md",
    ] {
        let text = read(document);
        // Even parts are prose, odd ones code.
        let prose = without_fences(&text);
        let parts: Vec<&str> = prose.split('`').collect();
        for (index, code) in parts.iter().enumerate().skip(1).step_by(2) {
            let plain = code.contains('/')
                && !code.contains([' ', '{', '*', '…', '$', ':', '<'])
                && !code.starts_with(['/', '.']);
            let (first, last) = (code.split('/').next().unwrap(), code.rsplit('/').next().unwrap());
            let names_file = plain && last.contains('.');
            let names_folder = plain && last.is_empty() && root().join(first).is_dir();
            if !names_file && !names_folder {
                continue;
            }
            assert!(root().join(code).exists(), "{document} names {code}, which is not there");
            found += 1;
            if names_file && index >= 2 && parts[index - 1] == " in " {
                let item = parts[index - 2].trim_end_matches("()");
                assert!(read(code).contains(item), "{document}: there is no {item} in {code}");
            }
        }
    }
    // A test that has stopped reading would pass for ever.
    assert!(found > 50, "only {found} names were found");
}

/// Every test that docs/RELIABILITY.md names is there.
#[test]
fn docs_name_tests_that_are_there() {
    let all: String = sources(&["e2e/tests", "shared/tests"]).iter().map(|file| read(file)).collect();
    let text = read("docs/RELIABILITY.md");
    let table = text.lines().filter(|line| line.starts_with("| "));
    let named = table.filter_map(|line| line.trim_end_matches('|').rsplit_once('|')).flat_map(|(_, cell)| {
        let words = cell.split('`').skip(1).step_by(2);
        words.filter(|word| word.contains('_') && !word.contains('.')).collect::<Vec<_>>()
    });
    let named: BTreeSet<&str> = named.collect();
    assert!(named.len() > 15, "{named:?}");
    for name in named {
        let there = all.contains(&format!("fn {name}(")) || all.contains(&format!("fn faults_{name}("));
        assert!(there, "there is no test {name}");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Cells of the table rows whose first cell is a name in code that begins with `prefix`; the name without its backticks.
fn rows(text: &str, prefix: &str) -> Vec<Vec<String>> {
    text.lines()
        .filter(|line| line.starts_with(&format!("| `{prefix}")))
        .map(|line| {
            let mut cells: Vec<String> =
                line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
            cells[0] = cells[0].trim_matches('`').to_owned();
            cells
        })
        .collect()
}

/// What a server says it reads.
fn settings_of(program: &str) -> BTreeSet<String> {
    let output = Command::new(binary(&format!("reelmill-{program}")))
        .arg("--check-config")
        .env_clear()
        .env("REELMILL_DATABASE_URL", "postgres://localhost/x")
        .env("REELMILL_STORAGE_URL", "file:///tmp/x")
        .env("REELMILL_SECRET_KEY", "0123456789abcdef0123456789abcdef")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    text.split(|c: char| !c.is_ascii_uppercase() && c != '_')
        .filter(|word| word.starts_with("REELMILL_"))
        .map(str::to_owned)
        .collect()
}

/// Variables of clap options in a file.
fn flags(file: &str) -> BTreeSet<String> {
    let text = read(file);
    text.split("env = ").skip(1).filter_map(|rest| quoted(rest, "REELMILL_").next()).collect()
}

/// String literals that are one word beginning with `prefix`.
fn quoted<'t>(text: &'t str, prefix: &'t str) -> impl Iterator<Item = String> + 't {
    text.split('"')
        .filter(move |word| word.starts_with(prefix))
        .filter(|word| word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
        .map(str::to_owned)
}

/// Rust files below these folders, relative to the root; tests are no part of the programs.
fn sources(folders: &[&str]) -> Vec<String> {
    let mut files = vec![];
    let mut todo: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                if entry.file_name() != "tests" {
                    todo.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    files
}

/// A document without its fenced blocks.
fn without_fences(text: &str) -> String {
    let mut fenced = false;
    text.lines()
        .filter(|line| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            !fence && !fenced
        })
        .collect::<Vec<_>>()
        .join("\n")
}
