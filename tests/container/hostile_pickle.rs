//! Pickles that lie, loop or want to run something.

use longclip::checkpoint::container;

use crate::build::{Call, Pickle, checkpoint, good, members, refusal, zip};

fn one(call: &Call) -> Vec<u8> {
    checkpoint(&Pickle::default().dict(&[("w", call.pickle())]).stop())
}

#[test]
fn the_builder_makes_a_file_that_opens() {
    let file = checkpoint(&Pickle::default().dict(&[("w", good())]).stop());
    let archive = container::open_bytes(file).unwrap();
    assert_eq!(archive.tensors["w"].to_f32().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(archive.tensors["w"].shape(), [2, 2]);
}

#[test]
fn shapes_that_lie_are_refused_before_anything_is_allocated() {
    let huge = i64::from(i32::MAX);
    let call = Call::new;
    let cases = [
        (
            call(&[10_000_000_000], &[1]),
            "needs 10000000000 elements of its storage, which holds 4",
        ),
        (
            call(&[huge, huge], &[huge, 1]),
            "more elements than memory has bytes",
        ),
        (
            call(&[huge, huge, huge], &[1, 1, 1]),
            "more elements than memory has bytes",
        ),
        (
            call(&[0, huge, huge, huge], &[1, 1, 1, 1]),
            "more elements than memory has bytes",
        ),
        (
            call(&[2, 2], &[1 << 62, 1 << 62]),
            "needs 9223372036854775809 elements",
        ),
        (
            call(&[4, 4], &[1 << 62, 1 << 62]),
            "reaches beyond any file",
        ),
        (call(&[2, 3], &[2, 1]), "needs 5 elements"),
        (call(&[5], &[1]), "needs 5 elements"),
        (call(&[-1], &[1]), "its shape: -1 is negative"),
        (call(&[2, 2], &[-2, 1]), "its strides: -2 is negative"),
        (call(&[2, 2], &[1]), "1 strides for 2 dimensions"),
        (
            call(&[i64::MAX], &[0]),
            "more elements than memory has bytes",
        ),
        (
            call(&[1 << 31], &[0]),
            "expands 4 stored elements to 2147483648",
        ),
        (
            call(&[1; 17], &[1; 17]),
            "17 dimensions are more than the 16",
        ),
        (call(&[1; 65], &[1; 65]), "65 dimensions"),
        (
            Call {
                offset: 1 << 62,
                ..call(&[4], &[1])
            },
            "of its storage, which holds 4",
        ),
        (
            Call {
                offset: i64::MAX,
                ..call(&[4], &[i64::MAX])
            },
            "reaches beyond any file",
        ),
        (
            Call {
                offset: -1,
                ..call(&[4], &[1])
            },
            "its offset is a number, not a count",
        ),
        (
            Call {
                offset: 1,
                ..call(&[4], &[1])
            },
            "needs 5 elements",
        ),
        (
            Call {
                numel: 1 << 62,
                ..call(&[4], &[1])
            },
            "its storage claims 4611686018427387904 elements",
        ),
        (
            Call {
                numel: 5,
                ..call(&[4], &[1])
            },
            "should hold 20 bytes but holds 16",
        ),
        (
            Call {
                numel: 3,
                ..call(&[4], &[1])
            },
            "needs 4 elements of its storage, which holds 3",
        ),
        (
            Call {
                numel: -1,
                ..call(&[4], &[1])
            },
            "storage \"0\" has no size",
        ),
        (
            Call {
                key: "1",
                ..call(&[4], &[1])
            },
            "no member \"m/data/1\"",
        ),
        (
            Call {
                key: "../data.pkl",
                ..call(&[4], &[1])
            },
            "no member",
        ),
        (
            Call {
                class: "DoubleStorage",
                ..call(&[4], &[1])
            },
            "should hold 32 bytes but holds 16",
        ),
    ];
    for (call, expected) in cases {
        let error = refusal(one(&call));
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(error.contains("tensor \"w\""), "{error}");
    }
}

#[test]
fn nothing_is_ever_executed() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("executed");
    let command = format!("touch {}", marker.display());
    for (module, function) in [("os", "system"), ("posix", "system"), ("builtins", "eval")] {
        let call = Pickle::default()
            .global(module, function)
            .raw(b"(")
            .text(&command)
            .raw(b"tR");
        let error = refusal(checkpoint(&call.clone().stop()));
        let name = format!("an object of {module}.{function} and no named tensors");
        assert!(error.contains(&name), "{error}");

        let beside = Pickle::default().dict(&[("w", good()), ("x", call)]);
        let archive = container::open_bytes(checkpoint(&beside.stop())).unwrap();
        assert_eq!(archive.tensors.len(), 1);
        let note = format!("not read: x (an object of {module}.{function})");
        assert_eq!(archive.notes, [note]);
    }
    assert!(!marker.exists());
}

#[test]
fn programs_that_make_no_sense_are_refused_with_their_place() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "ends at byte 0 without a STOP"),
        (b"\x80\x02", "ends at byte 2 without a STOP"),
        (b"\x80\x02.", "the stack is empty"),
        (b"\x80\x06N.", "pickle protocol 6"),
        (b"\x80\x01N.", "pickle protocol 1"),
        (
            b"\x80\x02h\x07.",
            "pickle byte 2, opcode 'h': nothing is remembered under 7",
        ),
        (b"\x80\x02q\x00.", "the stack is empty"),
        (b"\x80\x02t.", "no MARK was set"),
        (b"\x80\x02N\x86.", "too few values"),
        (b"\x80\x02N(\x85.", "too few values"),
        (b"\x80\x02(NNu.", "the stack is empty"),
        (b"\x80\x02}(Nu.", "a key has no value"),
        (b"\x80\x02N(Na.", "the stack is empty"),
        (b"\x80\x02NNa.", "cannot be added to"),
        (b"\x80\x02NNb.", "takes no state"),
        (b"\x80\x02N)R.", "what is called is no class"),
        (b"\x80\x02cos\nsystem\nNR.", "the arguments are no tuple"),
        (b"\x80\x02cos\nsystem", "a name has no end"),
        (b"\x80\x02c\xff\n\xfe\n.", "a name is not UTF-8"),
        (b"\x80\x02I1\n.", "not an opcode"),
        (b"\x80\x02\x82\x01.", "opcode 0x82: not an opcode"),
        (b"\x80\x05\x97.", "opcode 0x97: not an opcode"),
        (b"\x80\x02\xff.", "opcode 0xff: not an opcode"),
        (
            b"\x80\x04\x95\xff\0\0\0\0\0\0\0N.",
            "a frame of 255 bytes is announced but only 2",
        ),
        (
            b"\x80\x02X\xff\xff\xff\xffab.",
            "4294967295 bytes are announced but only 3 follow",
        ),
        (
            b"\x80\x02\x8b\xff\xff\xff\xff.",
            "4294967295 bytes are announced",
        ),
        (
            b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
            "18446744073709551615 bytes are announced",
        ),
        (b"\x80\x02]N\x86a.", "the stack is empty"),
    ];
    for (pickle, expected) in cases {
        let error = refusal(checkpoint(pickle));
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn values_that_hold_no_weights_are_named() {
    let cases: &[(&[u8], &str)] = &[
        (b"\x80\x02N.", "it holds None and no named tensors"),
        (b"\x80\x02]N\x85.", "a tuple of 1"),
        (b"\x80\x02].", "a list of 0"),
        (b"\x80\x02}.", "a dict of 0"),
        (b"\x80\x02K\x01.", "a number"),
        (b"\x80\x02cmodel\nClip\n.", "the class model.Clip"),
        (b"\x80\x02cmodel\nClip\n)\x81}b.", "an object of model.Clip"),
        (b"\x80\x02NQ.", "a storage"),
    ];
    for (pickle, expected) in cases {
        let error = refusal(checkpoint(pickle));
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(error.contains("state_dict()"), "{error}");
    }
    let bare = refusal(checkpoint(&good().stop()));
    assert!(
        bare.contains("an object of torch._utils._rebuild_tensor_v2"),
        "{bare}"
    );
    let list = refusal(checkpoint(
        &Pickle::default().raw(b"](").then(&good()).raw(b"e").stop(),
    ));
    assert!(list.contains("a list of 1"), "{list}");
}

#[test]
fn depth_costs_no_stack() {
    let nested = |levels: usize| [b"\x80\x02N".as_slice(), &vec![0x85; levels], b"."].concat();
    assert!(refusal(checkpoint(&nested(1_900_000))).contains("a tuple of 1"));
    assert!(refusal(checkpoint(&nested(3_000_000))).contains("more than 2000000 steps"));
    let lists = [
        b"\x80\x02".as_slice(),
        &vec![b']'; 900_000],
        &vec![b'a'; 899_999],
        b".",
    ]
    .concat();
    assert!(refusal(checkpoint(&lists)).contains("a list of 1"));
    let mut dicts = Pickle::default().dict(&[("w", good())]);
    for _ in 0..70 {
        dicts = Pickle::default().dict(&[("d", dicts)]);
    }
    assert!(refusal(checkpoint(&dicts.stop())).contains("nested more than 64 deep"));
}

#[test]
fn a_value_that_contains_itself_ends() {
    let dict = Pickle::default().raw(b"}q\x00").text("self").raw(b"h\x00s");
    let error = refusal(checkpoint(&dict.stop()));
    assert!(error.contains("nested more than 64 deep"), "{error}");
    let list = refusal(checkpoint(b"\x80\x02]q\x00h\x00a."));
    assert!(list.contains("a list of 1"), "{list}");
}

#[test]
fn sharing_without_end_is_counted() {
    // Each level holds the level below twice: 2^28 values in a few hundred bytes.
    let doubled = |leaf: Pickle| {
        let mut dicts = leaf.raw(b"q\x00");
        for level in 0..28u8 {
            dicts = dicts
                .raw(b"0}(")
                .text("a")
                .raw(&[b'h', level])
                .text("b")
                .raw(&[b'h', level])
                .raw(&[b'u', b'q', level + 1]);
        }
        refusal(checkpoint(&dicts.stop()))
    };
    let error = doubled(Pickle::default().dict(&[("w", good())]));
    assert!(
        error.contains("more than 65536 is no CLIP model"),
        "{error}"
    );
    let error = doubled(Pickle::default().raw(b"}"));
    assert!(error.contains("more than 1000000 values"), "{error}");

    let mut tuples = b"\x80\x02N".to_vec();
    tuples.extend((0..28).flat_map(|_| *b"2\x86"));
    tuples.push(b'.');
    assert!(refusal(checkpoint(&tuples)).contains("a tuple of 2"));
}

#[test]
fn a_large_value_shared_often_costs_no_more_than_once() {
    let many = 300_000;
    let entry = Pickle::default().int(1).raw(b"N");
    let large = Pickle::default()
        .raw(b"}(")
        .raw(&entry.0.repeat(many))
        .raw(b"uq\x00");
    let shared = Pickle::default().int(2).raw(b"h\x00");
    let dict = Pickle::default()
        .raw(b"}(")
        .text("first")
        .then(&large)
        .raw(&shared.0.repeat(many))
        .raw(b"u");
    let error = refusal(checkpoint(&dict.stop()));
    assert!(error.contains("more than 1000000 values"), "{error}");

    let pair = b"NN\x86";
    let list = Pickle::default()
        .raw(b"](")
        .raw(&pair.repeat(many))
        .raw(b"e\x85q\x00");
    let copy = b"ccollections\nOrderedDict\nh\x00R";
    let error = refusal(checkpoint(&list.raw(&copy.repeat(1000)).stop()));
    assert!(error.contains("copied too often"), "{error}");

    let module = Pickle::default().dict(&[
        ("_parameters", Pickle::default().raw(b"}")),
        ("_buffers", Pickle::default().raw(b"}")),
        ("_modules", Pickle::default().raw(b"}")),
        (
            "_non_persistent_buffers_set",
            Pickle::default()
                .raw(b"](")
                .raw(&b"N".repeat(many))
                .raw(b"e"),
        ),
    ]);
    let object = Pickle::default().global("m", "C").raw(b")\x81h\x00b");
    let modules = Pickle::default()
        .then(&module)
        .raw(b"q\x000}(")
        .raw(&Pickle::default().int(1).then(&object).0.repeat(100_000))
        .raw(b"u");
    let error = refusal(checkpoint(&modules.stop()));
    assert!(error.contains("more than 1000000 values"), "{error}");
}

#[test]
fn names_are_bounded_and_unique() {
    let long = "n".repeat(2000);
    let dict = Pickle::default().dict(&[(&long, good())]);
    assert!(refusal(checkpoint(&dict.stop())).contains("a tensor name has 2000 bytes"));
    let part = "n".repeat(600);
    let inner = Pickle::default().dict(&[(&part, good())]);
    let dict = Pickle::default().dict(&[(&part, inner)]);
    assert!(refusal(checkpoint(&dict.stop())).contains("a tensor name has 1201 bytes"));
    let ignored = Pickle::default().dict(&[("w", good()), (&long, Pickle::default().raw(b"N"))]);
    assert!(
        container::open_bytes(checkpoint(&ignored.stop()))
            .unwrap()
            .notes[0]
            .len()
            < 200
    );

    let inner = Pickle::default().dict(&[("b", good())]);
    let twice = Pickle::default().dict(&[("a.b", good()), ("a", inner)]);
    assert!(refusal(checkpoint(&twice.stop())).contains("two tensors are named"));
    let twice = Pickle::default().dict(&[("w", good()), ("w", good())]);
    assert!(refusal(checkpoint(&twice.stop())).contains("two tensors are named \"w\""));

    let many: Vec<(String, Pickle)> = (0..70_000)
        .map(|i| (i.to_string(), Pickle::default().raw(b"h\x00")))
        .collect();
    let many: Vec<(&str, Pickle)> = many.iter().map(|(k, p)| (k.as_str(), p.clone())).collect();
    let shared = good().raw(b"q\x000").dict(&many);
    assert!(refusal(checkpoint(&shared.stop())).contains("more than 65536 is no CLIP model"));
}

#[test]
fn tensors_made_of_the_wrong_things_are_refused() {
    let call = |arguments: Pickle| {
        Pickle::default()
            .global("torch._utils", "_rebuild_tensor_v2")
            .then(&arguments)
            .raw(b"R")
    };
    let empty = Pickle::default().raw(b")");
    let mut wrapped = good();
    for _ in 0..9 {
        wrapped = Pickle::default()
            .global("torch._utils", "_rebuild_parameter")
            .raw(b"(")
            .then(&wrapped)
            .raw(b"\x88NtR");
    }
    let storage = |pickle: Pickle| {
        let rest = Pickle::default().int(0).ints(&[4]).ints(&[1]);
        call(
            Pickle::default()
                .raw(b"(")
                .then(&pickle)
                .then(&rest)
                .raw(b"t"),
        )
    };
    let cases = [
        (call(empty), "of an unknown kind"),
        (wrapped, "wrapped more than 8 times"),
        (storage(Pickle::default().raw(b"N")), "its storage is None"),
        (storage(Pickle::default().raw(b"NQ")), "no storage"),
        (storage(Pickle::default().raw(b")Q")), "no storage"),
        (
            storage(Pickle::default().raw(b"(").text("storage").raw(b"NNNNtQ")),
            "a storage has no class",
        ),
    ];
    for (tensor, expected) in cases {
        let file = checkpoint(&Pickle::default().dict(&[("w", tensor)]).stop());
        let message = match container::open_bytes(file) {
            Ok(archive) => archive.tensors["w"].to_f32().unwrap_err().to_string(),
            Err(error) => format!("{error:#}"),
        };
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

#[test]
fn a_program_of_modules_is_walked_by_its_attributes() {
    let object = |class: &str, attributes: Pickle| {
        Pickle::default()
            .global("__torch__", class)
            .raw(b")\x81")
            .then(&attributes)
            .raw(b"b")
    };
    let inner = object(
        "Block",
        Pickle::default().dict(&[("weight", good()), ("n", Pickle::default().int(3))]),
    );
    let outer = Pickle::default().dict(&[
        ("block", inner),
        ("training", Pickle::default().raw(b"\x89")),
    ]);
    let mut files = members(&object("Clip", outer).stop());
    files.push(crate::build::Member::new("m/constants.pkl", b"\x80\x02)."));
    let archive = container::open_bytes(zip(&files)).unwrap();
    assert_eq!(archive.container, container::Container::TorchScript);
    assert_eq!(archive.tensors.keys().collect::<Vec<_>>(), ["block.weight"]);
    assert!(archive.notes.is_empty());
}
