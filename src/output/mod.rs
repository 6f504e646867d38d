//! Plain records -> table, json, jsonl, csv, tsv.
