"""Images by reference and id: configs, manifests, save, load, import, bootstrap."""

from buildtool.images.model import Image, LayerSource
from buildtool.images.service import Images

__all__ = ["Image", "Images", "LayerSource"]
