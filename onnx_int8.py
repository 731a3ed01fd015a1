"""A classifier with 8-bit weights and activations, for apps that count bytes and milliseconds.

    python export_onnx.py saved_models/classifier.pth --int8           # writes saved_models/classifier.int8.onnx
"""
import json
import logging

import numpy as np

import export_onnx
from utils.files import UserError, atomic

CALIBRATION = 500      # training images that show how large activations get
LOSS = 0.1             # points of accuracy that may be lost on the validation split


def export(checkpoint, path, glyphs):
    """Write a classifier (models.Checkpoint) as an ONNX file of the same contract, its convolutions in int8.

    Static quantisation of onnxruntime (Jacob et al. 2018, arXiv:1712.05877): one scale per output channel, in QDQ form,
    which any runtime of opset 18 reads. The last layer stays fp32, so that probabilities are as fine as before.
    `glyphs` (data.Glyphs with the classifier's classes) gives training images to calibrate on and the validation split
    to measure on. Returns {"bytes", "val_accuracy", "fp32_val_accuracy"}, accuracies in percent. Raises UserError, and
    leaves no file, where more than LOSS points are lost.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):
        blocks = iter(np.array_split(glyphs.x_train[np.random.default_rng(0).permutation(len(glyphs.x_train))
                                                    [:CALIBRATION]], 10))

        def get_next(self):
            block = next(self.blocks, None)
            return None if block is None else {"image": block}

    if checkpoint.role != "classifier" or glyphs.classes != checkpoint.classes:
        raise UserError(f"int8 is for a classifier and its own data set: this {checkpoint.kind} has the classes "
                        f"{', '.join(checkpoint.classes[:10])}, {glyphs.name} has {', '.join(glyphs.classes[:10])}")
    if not len(glyphs.x_val):
        raise UserError(f"{glyphs.name} has no validation images to prove an int8 classifier on: give more images a class")
    log = logging.getLogger()
    level = log.level
    with atomic(path) as tmp:
        onnx.save(export_onnx.build(checkpoint)[0], tmp)
        before = 100 * export_onnx.accuracy(tmp, glyphs.x_val, glyphs.y_val)
        try:
            log.setLevel(logging.ERROR)       # it recommends a preparation that our graphs have had already
            # 7 bits of weights: with 8, sums of two products overflow on processors before VNNI (2019)
            quantize_static(tmp, tmp, Images(), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True,
                            op_types_to_quantize=["Conv", "Relu", "MaxPool"], activation_type=QuantType.QUInt8,
                            weight_type=QuantType.QInt8)
        finally:
            log.setLevel(level)
        after = 100 * export_onnx.accuracy(tmp, glyphs.x_val, glyphs.y_val)
        proto = onnx.load(tmp)
        figures = {"val_accuracy": round(after / 100, 5), "fp32_val_accuracy": round(before / 100, 5)}
        onnx.helper.set_model_props(proto, export_onnx.metadata(checkpoint) | {
            "figures": json.dumps(figures), "precision": "int8 convolutions"})
        onnx.save(proto, tmp)
        export_onnx.check(tmp)
        if after < before - LOSS:
            raise UserError(f"int8 reads {after:.2f} % of the validation split, fp32 {before:.2f} %: more than {LOSS} "
                            "points are lost, nothing was written")
        size = tmp.stat().st_size
    return {"bytes": size, "val_accuracy": after, "fp32_val_accuracy": before}
