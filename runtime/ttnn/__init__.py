"""The ttnn backend: runs programs on a mesh of Tenstorrent devices, real or mocked. Only in here is ttnn imported."""
