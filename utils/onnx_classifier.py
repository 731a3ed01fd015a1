"""A classifier from an ONNX file as a network like any other, for autograd: what explains or attacks it takes gradients."""
import torch
import torch.nn.functional as F
from torch import nn

from utils.onnx_session import Session, open_session


class LogitsOfFile(torch.autograd.Function):
    """images float32 [N, 1, 28, 28] -> logits, run by onnxruntime, with gradients for autograd."""

    @staticmethod
    def forward(ctx, images, run):
        logits = run("logits", images)
        ctx.run = run
        ctx.save_for_backward(images, logits)
        return logits

    @staticmethod
    def backward(ctx, upstream):
        """upstream: float [N, K], how a score depends on each logit. The file knows the gradient of one logit and that
        of the cross-entropy; every other score is a weighted sum over the logits that it depends on."""
        images, logits = ctx.saved_tensors
        one_hot = logits.softmax(1) - upstream                                          # if it is the cross-entropy
        label = one_hot.argmax(1)
        if torch.allclose(one_hot, F.one_hot(label, logits.shape[1]).float(), rtol=0, atol=1e-6):
            return ctx.run("loss_gradient", images, label).unsqueeze(1), None
        row, label = torch.nonzero(upstream, as_tuple=True)
        parts = torch.cat([ctx.run("gradient", images[r], k) for r, k in zip(row.split(256), label.split(256))])
        parts = (parts * upstream[row, label].view(-1, 1, 1)).unsqueeze(1)
        return torch.zeros_like(images).index_add(0, row, parts), None


class ClassifierOfFile(nn.Module):
    """A classifier-gradient.onnx as a network like any other, for autograd, on the CPU: its layers are not to be seen.
    sessions: {output: the onnxruntime session of the part of the graph that makes it}."""

    def __init__(self, sessions):
        super().__init__()
        self.sessions = sessions

    def run(self, output, images, label=None):
        """One output of the file, float32: images [N, 1, 28, 28] and label int64 [N] are tensors."""
        arrays = {"image": images.detach().squeeze(1).numpy()} | ({} if label is None else {"label": label.numpy()})
        return torch.from_numpy(self.sessions[output].run(None, arrays)[0])

    def forward(self, images):
        """images float32 [N, 1, 28, 28] -> logits float32 [N, n_classes]."""
        return LogitsOfFile.apply(images, self.run)

    def __deepcopy__(self, memo):
        return self                           # there is nothing in it that changes


def open_classifier_gradient(path):
    """(ClassifierOfFile, metadata) of a classifier-gradient.onnx. Raises UserError for any other file."""
    import onnx.utils
    _, meta = open_session(path, "classifier-gradient")
    # onnxruntime computes all outputs of a graph, also those that nobody asks for
    whole = onnx.utils.Extractor(onnx.load(path, load_external_data=False))
    parts = {"logits": ["image"], "gradient": ["image", "label"], "loss_gradient": ["image", "label"]}
    sessions = {output: Session(path, content=whole.extract_model(inputs, [output]).SerializeToString())
                for output, inputs in parts.items()}
    return ClassifierOfFile(sessions), meta
