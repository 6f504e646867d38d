//! Malformed, cyclic and code-executing pickles.

use longclip::checkpoint::container;

use super::build::{Pickle, checkpoint, good, refusal};

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
fn malformed_programs_are_refused_with_their_offset() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "ends at byte 0 without a STOP"),
        (b"\x80\x02", "ends at byte 2 without a STOP"),
        (b"\x80\x02.", "the stack is empty"),
        (b"\x80\x06N.", "pickle protocol 6"),
        (b"\x80\x01N.", "pickle protocol 1"),
        (
            b"\x80\x02h\x07.",
            "pickle byte 2, opcode 'h': the memo has no entry 7",
        ),
        (b"\x80\x02q\x00.", "the stack is empty"),
        (b"\x80\x02t.", "no MARK was set"),
        (b"\x80\x02N\x86.", "too few values"),
        (b"\x80\x02N(\x85.", "too few values"),
        (b"\x80\x02(NNu.", "the stack is empty"),
        (b"\x80\x02}(Nu.", "a key has no value"),
        (b"\x80\x02N(Na.", "the stack is empty"),
        (b"\x80\x02NNa.", "cannot be extended"),
        (b"\x80\x02NNb.", "takes no state"),
        (b"\x80\x02N)R.", "the called value is not a class"),
        (b"\x80\x02cos\nsystem\nNR.", "the arguments are not a tuple"),
        (b"\x80\x02cos\nsystem", "a name is not terminated"),
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
fn values_without_weights_are_named() {
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
    assert!(refusal(checkpoint(&nested(900_000))).contains("a tuple of 1"));
    assert!(refusal(checkpoint(&nested(3_000_000))).contains("more than 1000000 steps"));
    let lists = [
        b"\x80\x02".as_slice(),
        &vec![b']'; 450_000],
        &vec![b'a'; 449_999],
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
fn a_value_that_contains_itself_terminates() {
    let dict = Pickle::default().raw(b"}q\x00").text("self").raw(b"h\x00s");
    let error = refusal(checkpoint(&dict.stop()));
    assert!(error.contains("nested more than 64 deep"), "{error}");
    let list = refusal(checkpoint(b"\x80\x02]q\x00h\x00a."));
    assert!(list.contains("a list of 1"), "{list}");
}

#[test]
fn excessive_sharing_is_counted() {
    // Each level contains the level below twice: 2^28 values in a few hundred bytes.
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
    assert!(error.contains("more than 300000 values"), "{error}");
    let error = doubled(Pickle::default().raw(b"}"));
    assert!(error.contains("more than 300000 values"), "{error}");

    let mut tuples = b"\x80\x02N".to_vec();
    tuples.extend((0..28).flat_map(|_| *b"2\x86"));
    tuples.push(b'.');
    assert!(refusal(checkpoint(&tuples)).contains("a tuple of 2"));
}

#[test]
fn a_large_value_shared_often_costs_no_more_than_once() {
    let many = 100_000;
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
    assert!(error.contains("more than 300000 values"), "{error}");

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
        .raw(&Pickle::default().int(1).then(&object).0.repeat(50_000))
        .raw(b"u");
    let error = refusal(checkpoint(&modules.stop()));
    assert!(error.contains("more than 300000 values"), "{error}");
}
