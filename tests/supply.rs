//! What the program is built from: licences, where packages come from, and NOTICE, which names them.
//! `tests/reliability/deny.toml` has the same rules for cargo-deny, which tests do not need.

#![allow(
    clippy::unwrap_used,
    reason = "a test should stop at the first surprise"
)]
// Cargo has fetched the packages of the machine that it builds for, and no others.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// The licences that a package may have, by the texts that ship with it or NOTICE.
const LICENCES: [&str; 11] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MPL-2.0",
    "Unicode-3.0",
    "Zlib",
];

/// Packages that are large or guard something: a second version would double one or the other.
const ONCE: [&str; 10] = [
    "candle-core",
    "clap",
    "image",
    "libsqlite3-sys",
    "mimalloc",
    "parquet",
    "ring",
    "rustls",
    "safetensors",
    "ureq",
];

/// What cargo tells of the packages of the lock file, without a network.
fn metadata() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--offline", "--format-version", "1"]);
    cargo.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = cargo.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether an expression such as `(A OR B) AND C` can be met with licences that are allowed.
fn is_allowed(expression: &str) -> bool {
    let is_known = |one: &str| LICENCES.contains(&one.trim().trim_matches(['(', ')']));
    let one_of = |part: &str| part.replace(" OR ", "/").split('/').any(is_known);
    expression.split(" AND ").all(one_of)
}

#[test]
fn packages_have_licences_that_are_allowed_and_come_from_the_registry() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100);
    for package in packages {
        let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        let (name, version) = (text("name"), text("version"));
        assert!(
            is_allowed(&text("license")),
            "{name}: {:?}",
            text("license")
        );
        if name != "longclip" {
            let registry = "registry+https://github.com/rust-lang/crates.io-index";
            assert_eq!(text("source"), registry, "{name}");
        }
        assert!(!["openssl-sys", "native-tls"].contains(&&*name), "{name}");
        versions.entry(name).or_default().insert(version);
    }
    for name in ONCE {
        assert_eq!(versions[name].len(), 1, "{name}: {:?}", versions[name]);
    }
}

#[test]
fn an_expression_of_licences_needs_one_allowed_alternative() {
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("Unlicense/MIT", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("Apache-2.0 AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND ISC", true),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression), expected, "{expression}");
    }
}

#[test]
fn notice_names_every_package_of_the_program() {
    let metadata = metadata();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let node = |id: &str| nodes.iter().find(|node| node["id"] == id).unwrap();
    let mut seen = BTreeSet::new();
    let mut open = vec![metadata["resolve"]["root"].as_str().unwrap()];
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in node(id)["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                open.push(dependency["pkg"].as_str().unwrap());
            }
        }
    }
    let notice = std::fs::read_to_string("NOTICE").unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    for package in packages
        .iter()
        .filter(|one| seen.contains(one["id"].as_str().unwrap()))
    {
        let (name, version) = (package["name"].as_str(), package["version"].as_str());
        let named = format!("\n{} {} (", name.unwrap(), version.unwrap());
        let is_own = name == Some("longclip");
        assert!(
            is_own || notice.contains(&named),
            "NOTICE lacks {named}; run python3 tests/reliability/notice.py > NOTICE"
        );
    }
}
