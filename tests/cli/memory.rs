//! Too little memory, by limits of `prlimit` (util-linux): a message and a status of the contract,
//! never a crash.

use std::process::Command;

use longclip::checkpoint::architecture::{Architecture, ImageTower, Tower, VisionTransformer};
use longclip::checkpoint::layout;
use serde_json::json;

use crate::room::{Room, png};
use crate::small;

/// The status and the messages of `longclip …` under a limit such as `--as=100000000`.
fn limited(room: &Room, limit: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let outer = room.command();
    let mut command = Command::new("prlimit");
    command
        .args([limit, "--", env!("CARGO_BIN_EXE_longclip")])
        .args(arguments);
    command
        .current_dir(outer.get_current_dir().unwrap())
        .env_clear();
    let variables = outer.get_envs();
    command.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().expect("needs prlimit, of util-linux");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// How many limits each command is run under.
fn steps() -> u64 {
    let wanted = std::env::var("LONGCLIP_MEMORY_LIMITS");
    wanted.map_or(6, |count| count.parse().expect("a number"))
}

#[test]
fn no_limit_on_address_space_ends_in_a_crash() {
    let room = Room::with(&["a.png", "b.png"]);
    room.fixture("base.jpg");
    let pair = |name: &str| {
        room.file(name, png(name));
        json!({"image": name, "caption": format!("{name} shows things. And more of them.")})
    };
    let pairs: Vec<_> = (0..8)
        .map(|n| pair(&format!("p{n}.png")).to_string())
        .collect();
    room.file("pairs.jsonl", pairs.join("\n"));
    let model = ["-m", small::model()];
    let rows = ["embed", "a.png", "b.png", "-q", "-o", "rows.npy"];
    room.longclip(&[&rows[..], &model].concat(), &[])
        .ends_with(0);
    // Below this, not even the program itself starts, which is not ours to answer for.
    let mega = 1_000_000;
    let starts =
        |bytes: &u64| limited(&room, &format!("--as={bytes}"), &["--version"]).0 == Some(0);
    let least = (1..).map(|n| n * 16 * mega).find(starts).unwrap();
    let commands: [&[&str]; 4] = [
        &[
            "classify", "a.png", "base.jpg", "-l", "cat", "dog", "-j", "4",
        ],
        &["embed", "a.png", "base.jpg"],
        &["search", "rows.npy", "a cat"],
        &[
            "finetune",
            "pairs.jsonl",
            "--batch-size",
            "4",
            "--pcm-rank",
            "2",
            "--out",
            "run",
            "--force",
        ],
    ];
    let (mut ended, mut aborted) = ([0_u32; 4], 0);
    for command in commands {
        let arguments = [command, &model].concat();
        for step in 0..steps() {
            let bytes = least + step * 600 * mega / steps();
            let (status, said) = limited(&room, &format!("--as={bytes}"), &arguments);
            // Where the C library itself finds no memory, it aborts.
            if status.is_none() && said.contains("Fatal glibc error") {
                aborted += 1;
                continue;
            }
            let place = [0, 1, 2, 75]
                .iter()
                .position(|known| status == Some(*known));
            let place = place.unwrap_or_else(|| panic!("{bytes} {arguments:?} {status:?}: {said}"));
            assert!(place == 0 || !said.is_empty(), "{bytes} {arguments:?}");
            ended[place] += 1;
        }
    }
    // The least limit is too small for all of them, or nothing was tested.
    assert!(ended[2] + ended[3] + aborted >= 4, "{ended:?}");
}

#[test]
fn a_model_that_cannot_fit_is_refused_before_it_is_read() {
    let room = Room::new();
    let tower = |layers| Tower {
        width: 1024,
        layers,
        heads: 16,
        mlp_width: 4096,
        norm_epsilon: 1e-5,
    };
    let architecture = Architecture {
        context_length: 77,
        vocabulary: 49408,
        embed_dim: 64,
        image: ImageTower::VisionTransformer(VisionTransformer {
            image_size: 32,
            patch_size: 16,
            tower: tower(2),
        }),
        text: tower(12),
    };
    let mut end = 0;
    let mut header = serde_json::Map::new();
    for (name, shape) in layout::canonical::expected(&architecture) {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        let tensor = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]});
        header.insert(name, tensor);
    }
    let header = serde_json::Value::from(header).to_string();
    let length = header.len() as u64;
    room.file(
        "big.safetensors",
        [&length.to_le_bytes(), header.as_bytes()].concat(),
    );
    // The numbers are a hole in the file.
    let file = std::fs::OpenOptions::new()
        .append(true)
        .open(room.path("big.safetensors"));
    file.unwrap().set_len(8 + length + end as u64).unwrap();
    room.image("a.png");
    let classify = "classify a.png -l a b -m big.safetensors --activation gelu --precision";
    let classify: Vec<&str> = classify.split(' ').collect();
    for (precision, limit, need, advice) in [
        ("f32", 600_000_000, "705 MB", "use --precision bf16"),
        ("f32", 100_000_000, "705 MB", "use a smaller model"),
        ("bf16", 300_000_000, "369 MB", "use --precision int8"),
    ] {
        let arguments = [&classify[..], &[precision]].concat();
        let (status, said) = limited(&room, &format!("--data={limit}"), &arguments);
        assert_eq!(status, Some(2), "{said}");
        let expected = format!(
            "this model needs at least {need} of memory, but the limit on data (ulimit -d) is {} \
             MB; ",
            limit / 1_000_000
        );
        assert!(said.contains(&expected), "{said}");
        // What stands in for integers depends on the CPU.
        assert!(said.contains(advice) || precision == "bf16", "{said}");
    }
    let (status, said) = limited(&room, "--as=600000000", &[&classify[..], &["f32"]].concat());
    assert_eq!(status, Some(75), "{said}");
    let expected = "912 MB are more than is left of the limit on address space (ulimit -v), 600 MB";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn too_few_threads_are_a_failure_that_may_pass() {
    let room = Room::with(&["a.png"]);
    let arguments = [
        "classify",
        "a.png",
        "-l",
        "a",
        "b",
        "-m",
        small::model(),
        "-j",
        "900",
    ];
    let (status, said) = limited(&room, "--as=1000000000", &arguments);
    assert_eq!(status, Some(75), "{said}");
    assert!(
        said.contains("cannot start 900 threads; use fewer: --threads 1"),
        "{said}"
    );
}
