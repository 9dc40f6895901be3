"""Tables as everyday programs write them, all of the same images: `LABELS` says which, and what they show."""

import json

LABELS = {"a.png": ("red", "square"), "b.png": ("blue",), "c.png": ()}
TASK = {"annotations": [{"result": [{"type": "choices", "value": {"choices": ["red", "square"]}}]}]}
CVAT = (
    '<?xml version="1.0"?><annotations><version>1.1</version><image id="0" name="a.png" width="3" height="4">'
    '<tag label="red" source="manual"/><box label="square" xtl="1" ytl="1" xbr="2" ybr="2"/></image>'
    '<image id="1" name="b.png"><tag label="blue"/></image><image id="2" name="c.png"/></annotations>'
)
TEXTS = {
    "separators: space (Planet)": ("train.csv", "image_name,tags\na,red square\nb,blue\nc,\nd,red\ne,square\n"),
    "comma": ("x.csv", 'file,labels\na.png,"red,square"\nb.png,blue\nc.png,\n'),
    "comma and space": ("x.csv", 'file,labels\na.png,"red, square"\nb.png,blue\nc.png,\n'),
    "Excel": ("x.csv", "sep=;\r\nfile;labels\r\na.png;red,square\r\nb.png;blue\r\nc.png;\r\n"),
    "semicolons": ("x.csv", "file;labels\na.png;red|square\nb.png;blue\nc.png;\n"),
    "TSV": ("x.tsv", "Image Path\tTag\npictures/a.png\tred;square\npictures/b.png\tblue\npictures/c.png\t_none\n"),
    "no header": ("x.csv", "a.png,red,square\nb.png,blue\nc.png\n"),
    "backslashes": ("x.csv", "file,labels\npictures\\a.png,red|square\npictures\\b.png,blue\npictures\\c.png,\n"),
    "lists of pandas": ("x.csv", "file,labels\na.png,\"['red', 'square']\"\nb.png,['blue']\nc.png,[]\n"),
    "0 and 1": ("x.csv", "file,red,square,blue,width\na.png,1,1,0,9\nb.png,0,0,1,8\nc.png,0,0,0,7\n"),
    "CelebA": ("x.csv", "image_id,red,square,blue\na.png,1,1,-1\nb.png,-1,-1,1\nc.png,-1,-1,-1\n"),
    "Hugging Face": (
        "metadata.jsonl",
        '{"file_name": "a.png", "labels": ["red", "square"]}\n{"file_name": "b.png", "labels": ["blue"]}\n\n'
        '{"file_name": "c.png", "labels": null}',
    ),
    "Label Studio JSON": (
        "project.json",
        json.dumps(
            [
                TASK | {"data": {"image": "/data/upload/1/0a1b2c3d-a.png"}},
                {
                    "data": {"image": "/data/local-files/?d=b.png"},
                    "annotations": [{"result": [{"value": {"choices": ["blue"]}}]}],
                },
                {"data": {"image": "/data/upload/1/c.png"}, "annotations": [{"result": []}]},
            ]
        ),
    ),
    "Label Studio JSON-MIN": (
        "min.json",
        json.dumps(
            [
                {"id": 1, "image": "/data/upload/a.png", "choice": {"choices": ["red", "square"]}},
                {"id": 2, "image": "/data/upload/b.png", "choice": "blue"},
                {"id": 3, "image": "c.png"},
            ]
        ),
    ),
    "Label Studio CSV": (
        "ls.csv",
        'image,id,choice,annotator\n/data/upload/1/a.png,1,"{""choices"":[""red"",""square""]}",9\n'
        "/data/upload/1/b.png,2,blue,9\nc.png,3,,9\n",
    ),
    "CVAT": ("annotations.xml", CVAT),
    "predictions": (
        "predictions.csv",
        "file,labels,blue,red,square\npictures/a.png,red-square,0.1,0.9,0.8\npictures/b.png,blue,0.9,0.1,0.2\n"
        "pictures/c.png,,0.1,0.1,0.1\n",
    ),
    "labels by file": ("labels.json", '{"a.png": ["red", "square"], "b.png": "blue", "c.png": []}'),
    "a row twice": ("x.csv", "file,labels\na.png,red|square\nb.png,blue\nc.png,\na.png,square|red\n"),
}
