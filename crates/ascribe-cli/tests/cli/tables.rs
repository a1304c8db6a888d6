//! Models of tables: trees, columns of text, names of classes.

use serde_json::Value;

use crate::{Place, Test, fixture, values};

fn files(name: &str) -> [String; 2] {
    ["onnx", "safetensors"].map(|ending| fixture(&format!("golden/onnx-ml/{name}.{ending}")))
}

#[test]
fn forests_are_explained_by_methods_that_need_outputs() -> Test {
    let place = Place::new()?;
    let [model, samples] = files("random_forest");
    for more in [&["--method", "occlusion"][..], &["--method", "rise", "--set", "cells=2"]] {
        let start = ["explain", &samples, "--model", &model, "-o", "why.safetensors", "--json"];
        let output = place.run(&[&start, more].concat())?;
        assert_eq!(output.status, Some(0), "{more:?}: {}", output.err);
        let object: Value = serde_json::from_str(&output.out)?;
        let best = &object["predictions"][0][0];
        assert!(["cat", "dog", "eel"].contains(&best["label"].as_str().ok_or("no label")?), "{best}");
        let probability = best["probability"].as_f64().ok_or("no probability")?;
        assert!(probability > 1.0 / 3.0 && probability <= 1.0, "{probability}");
        let (map, shape) = values(&place.path("why.safetensors"))?;
        assert_eq!(shape, [6, 4]);
        assert!(map.iter().any(|value| *value != 0.0), "{more:?}");
    }
    Ok(())
}

#[test]
fn methods_that_need_gradients_refuse_trees() -> Test {
    let place = Place::new()?;
    let [model, samples] = files("random_forest");
    for method in ["saliency", "integrated-gradients", "lrp", "guided-backprop", "smooth-grad"] {
        let words = ["piecewise constant", "TreeEnsemble", "occlusion, rise"];
        place.fails(2, &["explain", &samples, "--model", &model, "--method", method], &words)?;
    }
    Ok(())
}

#[test]
fn linear_models_and_networks_are_explained_by_gradients() -> Test {
    let place = Place::new()?;
    for name in ["logistic_regression_multi", "mlp_binary", "svr"] {
        let [model, samples] = files(name);
        for method in ["saliency", "integrated-gradients"] {
            let output = place.run(&["explain", &samples, "--model", &model, "--method", method])?;
            assert_eq!(output.status, Some(0), "{name} {method}: {}", output.err);
        }
    }
    Ok(())
}

#[test]
fn columns_have_inputs_of_their_own() -> Test {
    let place = Place::new()?;
    let [model, _] = files("columns_one_hot");
    let text = place.run(&["inspect", "--model", &model])?.out;
    assert!(text.contains("categories: 0 f, 1 m; -1 any other text"), "{text}");
    assert!(text.contains("categories: 0 C, 1 Q, 2 S; -1"), "{text}");
    let json: Value = serde_json::from_str(&place.run(&["inspect", "--model", &model, "--json"])?.out)?;
    let inputs = json["inputs"].as_array().ok_or("no inputs")?;
    let sex = inputs.iter().find(|input| input["name"] == "sex").ok_or("no input 'sex'")?;
    assert_eq!(sex["categories"], serde_json::json!(["f", "m"]));
    Ok(())
}
