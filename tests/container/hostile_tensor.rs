//! Tensors with an inconsistent shape, storage or name.

use longclip::checkpoint::container;

use super::build::{Call, Pickle, checkpoint, good, members, refusal, zip};

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
fn inconsistent_shapes_are_refused_before_anything_is_allocated() {
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
    assert!(refusal(checkpoint(&shared.stop())).contains("a CLIP model has at most 65536"));
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
        (call(empty), "its elements (unknown) cannot be read"),
        (wrapped, "wrapped more than 8 times"),
        (storage(Pickle::default().raw(b"N")), "its storage is None"),
        (storage(Pickle::default().raw(b"NQ")), "not a storage"),
        (storage(Pickle::default().raw(b")Q")), "not a storage"),
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
fn torchscript_modules_are_walked_by_their_attributes() {
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
    files.push(super::build::Member::new("m/constants.pkl", b"\x80\x02)."));
    let archive = container::open_bytes(zip(&files)).unwrap();
    assert_eq!(archive.container, container::Container::TorchScript);
    assert_eq!(archive.tensors.keys().collect::<Vec<_>>(), ["block.weight"]);
    assert!(archive.notes.is_empty());
}
